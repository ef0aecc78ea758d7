"""Ends connections whose peer does not read: what waits for it would be kept for as long as it likes."""

import asyncio

STALLED_AFTER_SECONDS = 20.0
LEAST_PROGRESS_BYTES = 64 * 1024
"""What has to pass in each period, either way, for a slow peer to be borne."""


class StallGuard:
    """Told when writing pauses and resumes; aborts a transport of which too little was read meanwhile.

    A polite close would wait for the same peer. Where the system has TCP_USER_TIMEOUT it ends those that read nothing
    at all; it bears those that read a byte at a time.
    """

    __slots__ = ("_left", "_timer", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        """Watch a transport."""
        self._transport = transport
        self._left = 0
        self._timer: asyncio.TimerHandle | None = None

    def paused(self) -> None:
        """Hear that more waits to be read than should."""
        self._left = self._transport.get_write_buffer_size()
        self._timer = asyncio.get_running_loop().call_later(STALLED_AFTER_SECONDS, self._judge)

    def resumed(self) -> None:
        """Hear that the peer has read, or is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _judge(self) -> None:
        if self._transport.get_write_buffer_size() > self._left - LEAST_PROGRESS_BYTES:
            self._timer = None
            self._transport.abort()
        else:
            self.paused()
