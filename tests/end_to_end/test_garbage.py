"""What a request leaves behind is gone when it is answered: nothing waits for the garbage collector."""

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest
import uvicorn
from uvicorn.server import ServerState

from app.commands.request_protocol import Bounds, bounded_protocol
from app.main import create_app
from app.observability.meter import Meter
from tests.services import new_settings

ENQUEUE = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 19\r\n\r\n"
REQUESTS = {
    "enqueue": (ENQUEUE + b'{"executor":"mail"}', b" 201 "),
    "refused enqueue": (ENQUEUE + b'{"executor": 12345}', b" 422 "),
    "no such path": (b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", b" 404 "),
}
TIMES = 20


@pytest.fixture
async def address(tmp_path) -> AsyncIterator[tuple[str, int]]:
    """Where the application is served by the protocol of ``serve``, in this process."""
    app = create_app(new_settings(tmp_path))
    async with app.router.lifespan_context(app):
        config = uvicorn.Config(app, http=bounded_protocol(Bounds(100, 30.0, 30.0), Meter()), log_config=None)
        config.load()
        state = ServerState()
        listening = await asyncio.get_running_loop().create_server(
            lambda: config.http_protocol_class(config=config, server_state=state, app_state={}), "127.0.0.1"
        )
        async with listening:
            yield listening.sockets[0].getsockname()


@pytest.fixture
async def connection(address) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to it."""
    reader, writer = await asyncio.open_connection(*address)
    yield reader, writer
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("name", REQUESTS)
async def test_answered_request_leaves_no_garbage(connection, name):
    reader, writer = connection
    request, status = REQUESTS[name]

    async def exchange() -> None:
        for _ in range(TIMES):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert status in head.split(b"\r\n")[0]
            (length,) = (line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length: "))
            await reader.readexactly(int(length.split()[1]))

    await exchange()
    gc.collect()
    gc.disable()
    try:
        await exchange()
        assert gc.collect() < TIMES
    finally:
        gc.enable()
