"""uvicorn's WebSocket protocol, which tells its session of every frame.

ASGI shows no pongs, and uvicorn answers invalid UTF-8 by itself; the contract needs both at the session.
"""

from collections.abc import Callable

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request

from ..api.stream import FRAMES


def _nobody_listens() -> None:
    pass


class SocketProtocol(WebSocketsSansIOProtocol):
    """Calls ``heard`` for each frame: text, binary, ping and pong."""

    heard: Callable[[], None] = staticmethod(_nobody_listens)

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
