"""Two servers over one PostgreSQL, callers and workers at both, sessions that wander: no promise is broken."""

import asyncio
import os
from contextlib import AsyncExitStack

import pytest

from tests.chaos.proxy import Proxy
from tests.end_to_end.server import Server
from tests.history.load import Load

SECONDS = float(os.environ.get("HISTORY_SECONDS", "4"))
"""Of load: a short form in ``make test``, a long one in ``make chaos``."""
WANDER_SECONDS = 0.7


@pytest.mark.slow
@pytest.mark.timeout(240 + SECONDS)
async def test_no_promise_is_broken_by_two_servers(tmp_path, postgres):
    async with AsyncExitStack() as stack:
        url = stack.enter_context(postgres.database())
        servers = []
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
            server = Server(tmp_path / name, database_url=url, lease_seconds=2, log_level="WARNING")
            await asyncio.to_thread(server.start)
            stack.push_async_callback(asyncio.to_thread, server.stop)
            servers.append(server)
        ports = [int(server.settings["port"]) for server in servers]
        proxy = await stack.enter_async_context(Proxy(ports[0]).running())
        load = await stack.enter_async_context(Load(tmp_path))
        for server in servers:
            await load.begin_at(server)
        await load.add_workers(proxy.port)
        wandering = asyncio.create_task(wander(proxy, ports))
        await asyncio.sleep(SECONDS)  # the load itself
        wandering.cancel()
        await load.settle()
    assert [failure for server in servers for failure in server.failures()] == []
    seen = load.judge()
    print(dict(seen))
    assert seen["deliveries"] > 50
    assert seen["resumed"]


async def wander(proxy: Proxy, ports: list[int]) -> None:
    """Let whoever connects through the proxy come to the other server next time."""
    for number in range(2**31):
        proxy.target = ports[number % 2]
        await asyncio.sleep(WANDER_SECONDS)
        proxy.reset()
