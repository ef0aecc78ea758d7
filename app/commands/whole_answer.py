"""An answer's head and the first part of its body in one write: apart, each would be a packet and wake the peer."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

_JOINED_BYTES = 64 * 1024
"""A longer part is not copied for it: it takes many packets anyway."""


class WholeAnswer:
    """The transport as the answer to one request sees it: its head is held until there is something to go with it."""

    __slots__ = ("_cycle", "_head", "_is_held", "_transport")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        """Stand between a request and its transport."""
        self._cycle = cycle
        self._transport: asyncio.Transport = cycle.transport
        self._head: bytes | None = None
        self._is_held = True

    def __getattr__(self, name: str) -> Any:
        """Leave all else to the transport."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Hold the head, which is the first that is written once the answer has begun; write the rest."""
        if self._head is not None:
            head, self._head = self._head, None
            if len(data) <= _JOINED_BYTES:
                self._transport.write(head + data)
            else:
                self._transport.write(head)
                self._transport.write(data)
        elif self._is_held and self._cycle.response_started:
            self._head = data
            self._is_held = False
        else:
            self._transport.write(data)

    def flush(self) -> None:
        """Write a head that nothing followed."""
        if self._head is not None:
            self._transport.write(self._head)
            self._head = None

    def close(self) -> None:
        """Write what is held, then close."""
        self.flush()
        self._transport.close()
