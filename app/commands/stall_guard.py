"""Ends connections whose peer does not read: what waits for it would be kept for as long as it likes."""

import asyncio
import socket
import struct
from contextlib import suppress
from typing import cast

_LOOK_SECONDS = 5.0
_STALLED_AFTER_SECONDS = 15.0
LEAST_PROGRESS_BYTES = 64 * 1024
"""What has to pass in each period, either way, for a slow peer to be borne: here 15 s."""


class StallGuard:
    """Told when writing pauses and resumes; aborts a transport of which too little was read meanwhile.

    A polite close would wait for the same peer. Where the system has TCP_USER_TIMEOUT it ends those that read nothing
    at all; it bears those that read a byte at a time.
    """

    __slots__ = ("_left", "_moved_at", "_timer", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        """Watch a transport."""
        self._transport = transport
        self._left = 0
        self._moved_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def paused(self) -> None:
        """Hear that more waits to be read than should."""
        self._moved()
        self._look_later()

    def resumed(self) -> None:
        """Hear that the peer has read, or is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._transport.get_write_buffer_size() <= self._left - LEAST_PROGRESS_BYTES:
            self._moved()
        elif asyncio.get_running_loop().time() >= self._moved_at + _STALLED_AFTER_SECONDS:
            cut_off(self._transport)
            return
        self._look_later()

    def _moved(self) -> None:
        self._left = self._transport.get_write_buffer_size()
        self._moved_at = asyncio.get_running_loop().time()


class StallGuarded(asyncio.Protocol):
    """What a protocol is mixed with, so that a guard watches its peer."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to watch."""
        super().connection_made(transport)
        self._stall_guard = StallGuard(cast(asyncio.Transport, transport))

    def connection_lost(self, exc: Exception | None) -> None:
        """Watch no longer."""
        self._stall_guard.resumed()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Watch whether the peer reads."""
        super().pause_writing()
        self._stall_guard.paused()

    def resume_writing(self) -> None:
        """Be content: the peer has read."""
        self._stall_guard.resumed()
        super().resume_writing()


def cut_off(transport: asyncio.Transport) -> None:
    """Drop a connection with all that waits for the peer.

    After a mere abort the system would go on to hold what it took, megabytes, and wait for the peer as a close does.
    """
    connection = transport.get_extra_info("socket")
    if connection is not None:
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
