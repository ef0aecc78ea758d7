"""uvicorn's WebSocket protocol, which tells its session of every frame and ends those that do not read.

ASGI shows no pongs, and uvicorn answers invalid UTF-8 by itself; the contract needs both at the session.
"""

from asyncio.transports import BaseTransport
from collections.abc import Callable
from http import HTTPStatus

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.datastructures import Headers
from websockets.frames import Frame
from websockets.http11 import Request, Response

from ..api.stream import FRAMES
from .refusal import refusal
from .stall_guard import StallGuarded, cut_off

_CLOSE_SECONDS = 2.0
"""How long a client may take to answer a close; one that was silent for a lease will hardly answer."""


def _nobody_listens() -> None:
    pass


def _reject(status: int, text: str) -> Response:  # noqa: ARG001
    headers, body = refusal(HTTPStatus(status))
    return Response(status, HTTPStatus(status).phrase, Headers(headers), body)


class SocketProtocol(StallGuarded, WebSocketsSansIOProtocol):
    """Calls ``heard`` for each frame: text, binary, ping and pong."""

    heard: Callable[[], None] = staticmethod(_nobody_listens)

    def abort(self) -> None:
        """Drop the connection with all that waits for it: a close would wait as well."""
        cut_off(self.transport)

    def connection_made(self, transport: BaseTransport) -> None:
        """Begin a handshake, with our own limits and answers."""
        super().connection_made(transport)
        self.close_timeout = _CLOSE_SECONDS
        # The library would answer a broken handshake with a text that repeats what was sent.
        self.conn.reject = _reject  # type: ignore[method-assign]

    def data_received(self, data: bytes) -> None:
        """Close after a handshake that the library refuses to read, which uvicorn would leave open for ever."""
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.transport.close()

    def handle_connect(self, event: Request) -> None:
        """Let the session find this protocol in its scope."""
        super().handle_connect(event)
        if self.response.status_code == 101:
            self.scope["extensions"] = {**(self.scope["extensions"] or {}), FRAMES: self}  # type: ignore[dict-item]

    def send_receive_event_to_app(self) -> None:
        """Hand on invalid UTF-8 as binary: the session closes it as malformed, where uvicorn would close with 1007."""
        self.heard()
        if self.curr_msg_data_type == "text":
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self.curr_msg_data_type = "bytes"
        super().send_receive_event_to_app()

    async def send(self, message: ASGISendEvent) -> None:
        """Count a refusal before the upgrade as an end of the handshake, which uvicorn would log as a mistake."""
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True

    def handle_ping(self) -> None:
        """Hear the client's ping."""
        self.heard()
        super().handle_ping()

    def handle_pong(self, event: Frame) -> None:
        """Hear the client's pong."""
        self.heard()
        super().handle_pong(event)
