"""A WebSocket client that sends any frame, right or wrong, and reads what comes."""

import base64
import os
import socket
import struct
from types import TracebackType
from typing import Self

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
PATIENCE_SECONDS = 15.0


class RawSocket:
    """``status`` is that of the answer to the handshake; only after 101 there are frames."""

    def __init__(self, port: str, path: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", int(port)), timeout=PATIENCE_SECONDS)
        self._file = self._socket.makefile("rb")
        self.close_code: int | None = None
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        self.status = int(self._file.readline().split()[1])
        while self._file.readline() not in {b"\r\n", b""}:
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
        self._socket.close()

    def send(self, opcode: int, payload: bytes, *, is_last: bool = True) -> bool:
        """Send a frame; return whether somebody may still be there to read it."""
        size = len(payload)
        if size < 126:
            length = bytes([0x80 | size])
        else:
            length = struct.pack("!BH", 0xFE, size) if size < 65_536 else struct.pack("!BQ", 0xFF, size)
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload)) if size < 65_536 else payload
        if size >= 65_536:
            mask = b"\0\0\0\0"
        return self.send_raw(bytes([(0x80 if is_last else 0) | opcode]) + length + mask + masked)

    def send_raw(self, data: bytes) -> bool:
        """Send bytes as they are; return whether somebody may still be there to read them."""
        try:
            self._socket.sendall(data)
        except OSError:
            return False
        return True

    def next_text(self) -> str | None:
        """Wait for a text frame, pings answered; None once the connection has ended, ``close_code`` known.

        A server sends its messages unfragmented and unmasked; a binary frame is an error.
        """
        while True:
            try:
                head = self._file.read(2)
                if len(head) < 2:
                    return None
                size = head[1]
                if size == 126:
                    (size,) = struct.unpack("!H", self._file.read(2))
                elif size == 127:
                    (size,) = struct.unpack("!Q", self._file.read(8))
                payload = self._file.read(size)
            except ConnectionError:
                return None
            match head[0]:
                case 0x81:
                    return payload.decode()
                case 0x88:
                    self.close_code = struct.unpack("!H", payload[:2])[0] if payload else None
                    self.send(CLOSE, payload)
                case 0x89:
                    self.send(PONG, payload)
                case 0x8A:
                    pass
                case other:
                    raise AssertionError(f"a frame begins with {other:#x}")
