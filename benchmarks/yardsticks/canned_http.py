"""A server that parses each request and answers with ready-made bytes: it shows what the producer can do by itself."""

import asyncio
from typing import cast

import uvloop
from httptools import HttpRequestParser

from .listening import serve_until_signal

_BODY = b'{"id":1,"outcome":"inserted"}'
_ANSWER = (
    b"HTTP/1.1 201 Created\r\nlocation: /v1/jobs/1\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\nx-request-id: 00000000-0000-0000-0000-000000000000\r\n\r\n%b" % (len(_BODY), _BODY)
)


class CannedHttp(asyncio.Protocol):
    """Answers every request alike."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)
        self._parser = HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Answer a complete request."""
        self._transport.write(_ANSWER)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve_until_signal(CannedHttp))
