"""The proxy does to connections what it says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from tests.chaos.proxy import Proxy

PATIENCE_SECONDS = 20
NOTHING_SECONDS = 0.2
"""How long nothing must come for nothing to come."""


class Peer:
    """What the far end saw."""

    def __init__(self) -> None:
        self.connections: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append((reader, writer))
        with suppress(OSError):
            while data := await reader.read(100):
                writer.write(data)


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Proxy, Peer, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client, the proxy, and an end that echoes."""
    peer = Peer()
    server = await asyncio.start_server(peer.accept, "127.0.0.1", 0)
    async with Proxy(server.sockets[0].getsockname()[1]).running() as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await echo(reader, writer) == b"ping"
        yield proxy, peer, reader, writer
        writer.transport.abort()
    server.close()
    for _, accepted in peer.connections:
        accepted.transport.abort()
        with suppress(OSError):
            await accepted.wait_closed()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(b"ping")
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await reader.read(100)


async def test_stall_holds_everything_up_and_loses_nothing():
    async with connected() as (proxy, _, reader, writer):
        stalling = asyncio.create_task(proxy.stall(3 * NOTHING_SECONDS))
        echoing = asyncio.create_task(echo(reader, writer))
        await asyncio.sleep(NOTHING_SECONDS)
        assert not echoing.done()
        assert await echoing == b"ping"
        await stalling


async def test_delay_makes_each_piece_late():
    async with connected() as (proxy, _, reader, writer):
        delaying = asyncio.create_task(proxy.delay(NOTHING_SECONDS, PATIENCE_SECONDS))
        await asyncio.sleep(0)  # it has begun
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        assert await echo(reader, writer) == b"ping"
        assert loop.time() - began_at > NOTHING_SECONDS
        delaying.cancel()


async def test_reset_is_a_reset_and_no_end():
    async with connected() as (proxy, _, reader, _):
        proxy.reset()
        async with asyncio.timeout(PATIENCE_SECONDS):
            with pytest.raises(ConnectionResetError):
                await reader.read(100)


async def test_lost_client_leaves_the_server_in_the_dark():
    async with connected() as (proxy, peer, reader, _):
        proxy.lose_clients()
        async with asyncio.timeout(PATIENCE_SECONDS):
            with pytest.raises(ConnectionResetError):
                await reader.read(100)
        await asyncio.sleep(NOTHING_SECONDS)
        assert not peer.connections[0][0].at_eof()
        assert not peer.connections[0][1].is_closing()


async def test_lost_server_leaves_the_client_in_the_dark():
    async with connected() as (proxy, _, reader, writer):
        proxy.lose_server()
        writer.write(b"anybody?")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(100), NOTHING_SECONDS)
        assert not reader.at_eof()
