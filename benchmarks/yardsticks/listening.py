"""Stand-in servers on a free port of this machine; they tell it as ``rexecutor serve`` does, and end at SIGTERM."""

import asyncio
import signal
from collections.abc import Callable


async def serve_until_signal(make_protocol: Callable[[], asyncio.Protocol]) -> None:
    """Listen, print where, serve until SIGTERM."""
    loop = asyncio.get_running_loop()
    leaving = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, leaving.set)
    server = await loop.create_server(make_protocol, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    print(f"stand-in serves http://127.0.0.1:{port}", flush=True)
    await leaving.wait()
    server.close()
