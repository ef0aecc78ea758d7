"""A lean HTTP client: one keep-alive connection with one request in flight, ready-made bytes out, a status back."""

import asyncio
from collections.abc import Callable
from typing import cast

from httptools import HttpResponseParser


class UnexpectedAnswer(RuntimeError):
    """The server answered with an error, or not at all."""


class HttpConnection(asyncio.Protocol):
    """Calls ``answered`` with itself when the answer to its request is complete; ``lost`` when that cannot come."""

    def __init__(self, answered: Callable[["HttpConnection"], None], lost: Callable[[Exception], None]) -> None:
        """Wait to be connected."""
        self._answered = answered
        self._lost = lost
        self._parser = HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._feed = self._parser.feed_data

    def send(self, request: bytes) -> None:
        """Send a request; the one before has been answered."""
        self._transport.write(request)

    def close(self) -> None:
        """Close the connection."""
        self._lost = lambda _: None
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        self._feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell that no answer will come."""
        self._lost(exc or UnexpectedAnswer("the server closed the connection"))

    def on_message_complete(self) -> None:
        """Hear from the parser that an answer is complete."""
        status = self._parser.get_status_code()
        if status not in {200, 201}:
            self._lost(UnexpectedAnswer(f"the server answered {status}"))
            return
        self._answered(self)


async def connect(
    port: int, connections: int, answered: Callable[[HttpConnection], None], lost: Callable[[Exception], None]
) -> list[HttpConnection]:
    """Open connections to a server on this machine."""
    loop = asyncio.get_running_loop()
    opened = [
        await loop.create_connection(lambda: HttpConnection(answered, lost), "127.0.0.1", port)
        for _ in range(connections)
    ]
    return [protocol for _, protocol in opened]
