"""A TCP proxy that treats connections as bad networks do: it stalls, delays, resets and leaves them half open."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_CHUNK = 65_536
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends RST."""


class Proxy:
    """Forwards to a port of this machine, until told otherwise."""

    def __init__(self, target: int, *others: int) -> None:
        """Forward to a port; nothing listens there yet, perhaps. With others, to each in turn."""
        self.target = target
        self.others = others
        self._turn = 0
        self.port = 0
        self._links: set[_Link] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._delay_seconds = 0.0

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Proxy"]:
        """Listen, and cut all connections at the end."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._serving:
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)
            await server.wait_closed()

    async def stall(self, seconds: float) -> None:
        """Let nothing pass for a while, either way; nobody is told."""
        self._flowing.clear()
        await asyncio.sleep(seconds)
        self._flowing.set()

    async def delay(self, seconds: float, duration_seconds: float) -> None:
        """Hold up each piece of data for a while."""
        self._delay_seconds = seconds
        await asyncio.sleep(duration_seconds)
        self._delay_seconds = 0.0

    def reset(self) -> None:
        """Reset all connections, on both sides."""
        for link in list(self._links):
            link.reset()

    def lose_clients(self) -> None:
        """Reset the clients' sides; the server's sides stay open, and nothing is read or sent there any more."""
        for link in list(self._links):
            link.lose_client()

    def lose_server(self) -> None:
        """Reset the server's sides; the clients' stay open, and nothing is read or sent there any more."""
        for link in list(self._links):
            link.lose_server()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward = await self._connect()
        if onward is None:
            writer.transport.abort()
            return
        onward_reader, onward_writer = onward
        link = _Link(writer, onward_writer)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(link, reader, onward_writer))
                tasks.create_task(self._pump(link, onward_reader, writer))
        finally:
            link.cut()
            self._links.discard(link)
            with suppress(OSError):
                await writer.wait_closed()
            with suppress(OSError):
                await onward_writer.wait_closed()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        targets = [self.target, *self.others]
        self._turn += 1
        for number in range(len(targets)):
            with suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", targets[(self._turn + number) % len(targets)])
        return None

    async def _pump(self, link: "_Link", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one way until either side ends; where one was lost, wait until the link is cut."""
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                if self._delay_seconds:
                    await asyncio.sleep(self._delay_seconds)
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        if link.is_half_open:
            await link.was_cut.wait()
        link.cut()


class _Link:
    """Both sides of one forwarded connection."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._client = client
        self._server = server
        self.is_half_open = False
        self.was_cut = asyncio.Event()

    def cut(self) -> None:
        """End both sides."""
        self.was_cut.set()
        self._client.transport.abort()
        self._server.transport.abort()

    def reset(self) -> None:
        _send_reset(self._client)
        _send_reset(self._server)

    def lose_client(self) -> None:
        self._lose(self._client, self._server)

    def lose_server(self) -> None:
        self._lose(self._server, self._client)

    def _lose(self, lost: asyncio.StreamWriter, kept: asyncio.StreamWriter) -> None:
        self.is_half_open = True
        kept.transport.pause_reading()  # type: ignore[attr-defined]
        _send_reset(lost)


def _send_reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is not None:
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
