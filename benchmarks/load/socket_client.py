"""A lean WebSocket client: websockets' own protocol without its asyncio layer, no compression, text frames."""

import asyncio
from collections.abc import Callable
from typing import cast

from websockets.client import ClientProtocol
from websockets.exceptions import WebSocketException
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

_MAX_FRAME_BYTES = 2 * 1024 * 1024


class SocketLost(RuntimeError):
    """The server refused or closed the connection."""


class SocketConnection(asyncio.Protocol):
    """Calls ``received`` with the bytes of each text frame; ``lost`` when no more can come."""

    def __init__(self, url: str, received: Callable[[bytes], None], lost: Callable[[Exception], None]) -> None:
        """Wait to be connected."""
        self._protocol = ClientProtocol(parse_uri(url), max_size=_MAX_FRAME_BYTES)
        self._received = received
        self._lost = lost
        self._transport: asyncio.Transport

    @property
    def is_open(self) -> bool:
        """Whether the server has accepted the upgrade, and nobody has closed since."""
        return self._protocol.state is State.OPEN

    def send(self, text: bytes) -> None:
        """Send a text frame."""
        self._protocol.send_text(text)
        self._flush()

    def close(self) -> None:
        """Drop the connection, without ceremony."""
        self._lost = lambda _: None
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        self._transport = cast(asyncio.Transport, transport)
        self._protocol.send_request(self._protocol.connect())
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Hand on the frames that are complete; pings are answered by the protocol."""
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                if event.opcode is Opcode.TEXT:
                    self._received(bytes(event.data))
            elif isinstance(event, Response) and self._protocol.handshake_exc is not None:
                self._lost(SocketLost(f"the server answered the upgrade with {event.status_code}"))
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell that the connection is gone."""
        self._lost(exc or SocketLost(f"the server closed the connection: {self._close_reason()}"))

    def _close_reason(self) -> str:
        try:
            return str(self._protocol.close_exc)
        except (AssertionError, WebSocketException):
            return "no close frame"

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)


async def connect(
    port: int, target: str, received: Callable[[bytes], None], lost: Callable[[Exception], None]
) -> SocketConnection:
    """Connect to a path on this machine; the upgrade's answer is not waited for."""
    loop = asyncio.get_running_loop()
    url = f"ws://127.0.0.1:{port}{target}"
    _, protocol = await loop.create_connection(lambda: SocketConnection(url, received, lost), "127.0.0.1", port)
    return protocol
