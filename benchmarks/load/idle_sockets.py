"""Sockets that do nothing: opens them, says ``ready``, and holds them until SIGTERM."""

import asyncio

from msgspec import Struct

from .child import run
from .socket_client import connect

_OPEN_SECONDS = 30.0
_LOOK_SECONDS = 0.05


class Order(Struct, frozen=True, kw_only=True):
    """How many, and where."""

    port: int
    sockets: int


async def hold(order: Order) -> None:
    """Follow an order."""
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def lost(error: Exception) -> None:
        if not failed.done():
            failed.set_exception(error)

    target = "/v1/executors/idle/subscribe"
    sockets = [await connect(order.port, target, lambda _: None, lost) for _ in range(order.sockets)]
    async with asyncio.timeout(_OPEN_SECONDS):
        while not all(socket.is_open for socket in sockets):
            await asyncio.sleep(_LOOK_SECONDS)
    print("ready", flush=True)
    await failed


if __name__ == "__main__":
    run(Order, hold)
