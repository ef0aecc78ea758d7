"""uvicorn's WebSocket protocol, which tells its session of every frame and ends messages without end.

ASGI shows no pongs, and uvicorn answers invalid UTF-8 by itself; the contract needs both at the session.
"""

import asyncio
from asyncio.transports import BaseTransport
from collections.abc import Callable
from http import HTTPStatus

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.datastructures import Headers
from websockets.frames import Frame
from websockets.http11 import Request, Response

from ..api.close_codes import SILENT, TOO_BIG
from ..api.stream import FRAMES
from .refusal import refusal, refusal_while_leaving
from .stall_guard import LEAST_PROGRESS_BYTES, StallGuarded, cut_off

_CLOSE_SECONDS = 2.0
"""How long a client may take to answer a close; one that was silent for a lease will hardly answer."""

_MAX_FRAGMENTS = 10_000
"""Of one message: they may be empty, and each is kept until its end."""


def _nobody_listens() -> None:
    pass


def _reject(status: int, text: str) -> Response:  # noqa: ARG001
    return _response(HTTPStatus(status), refusal(HTTPStatus(status)))


def _response(status: HTTPStatus, answer: tuple[dict[str, str], bytes]) -> Response:
    headers, body = answer
    return Response(status.value, status.phrase, Headers(headers), body)


class SocketProtocol(StallGuarded, WebSocketsSansIOProtocol):
    """Calls ``heard`` for each frame: text, binary, ping and pong."""

    message_seconds: float
    """In each such period a message must end, or 64 KiB arrive."""
    heard: Callable[[], None] = staticmethod(_nobody_listens)
    _deadline: asyncio.TimerHandle | None = None
    _arrived_bytes = 0

    def abort(self) -> None:
        """Drop the connection with all that waits for it: a close would wait as well."""
        cut_off(self.transport)

    def connection_made(self, transport: BaseTransport) -> None:
        """Begin a handshake, with our own limits and answers."""
        super().connection_made(transport)
        self.close_timeout = _CLOSE_SECONDS
        # The library would answer a broken handshake with a text that repeats what was sent.
        self.conn.reject = _reject  # type: ignore[method-assign]

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._await_nothing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Close after a handshake that the library refuses to read, which uvicorn would leave open for ever.

        See to it that a message ends which has begun.
        """
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.transport.close()
        self._arrived_bytes += len(data)
        if len(self.frames) > _MAX_FRAGMENTS:
            self._fail(TOO_BIG)
        elif self.frames and self._deadline is None:
            self._await_end()

    def shutdown(self) -> None:
        """Tell a client whose socket is still being opened that the server leaves; uvicorn would answer 500."""
        if self.handshake_complete or self.initial_response is not None:
            super().shutdown()
            return
        self.conn.send_response(_response(HTTPStatus.SERVICE_UNAVAILABLE, refusal_while_leaving()))
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.transport.close()

    def handle_connect(self, event: Request) -> None:
        """Let the session find this protocol in its scope."""
        super().handle_connect(event)
        if self.response.status_code == 101:
            self.scope["extensions"] = {**(self.scope["extensions"] or {}), FRAMES: self}  # type: ignore[dict-item]

    def handle_parser_exception(self) -> None:
        """Close; drop a client that breaks the protocol before it has a socket which could be closed."""
        if self.conn.close_sent is None:
            self.abort()
        else:
            super().handle_parser_exception()

    def send_receive_event_to_app(self) -> None:
        """Hand on invalid UTF-8 as binary: the session closes it as malformed, where uvicorn would close with 1007."""
        self.heard()
        self._await_nothing()
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

    def _await_end(self) -> None:
        self._arrived_bytes = 0
        self._deadline = self.loop.call_later(self.message_seconds, self._judge)

    def _await_nothing(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _judge(self) -> None:
        if self._arrived_bytes >= LEAST_PROGRESS_BYTES or self.read_paused:
            self._await_end()
        else:
            self._fail(SILENT)

    def _fail(self, code: int) -> None:
        self._await_nothing()
        self.frames = []
        self.conn.fail(code)
        self.handle_parser_exception()


def bounded_socket_protocol(message_seconds: float) -> type[SocketProtocol]:
    """Return the protocol class for a server that waits so long for the end of a message."""
    return type("BoundedSocketProtocol", (SocketProtocol,), {"message_seconds": message_seconds})
