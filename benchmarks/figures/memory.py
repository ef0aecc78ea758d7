"""Memory: of the server once many jobs went through it, and of each idle socket after that."""

import asyncio
import math

from ..load.idle_sockets import Order
from ..rig.bench import Bench
from ..rig.children import Server, running_load
from ..rig.machine import resident_bytes
from ..rig.stores import Store
from .drain import fill_and_drain
from .figure import YARDSTICK, Figure, Mark, Numbers, Unit

_SETTLE_SECONDS = 1.0


async def _memory(bench: Bench, store: Store) -> Numbers:
    async with bench.service(store) as server:
        await fill_and_drain(server, bench.scale.memory_jobs)
        await asyncio.sleep(_SETTLE_SECONDS)
        resident = _resident(server)
        return {"resident": resident / 1e6, "socket": await _socket_kibibytes(bench, server)}


async def _empty_sockets(bench: Bench) -> Numbers:
    async with bench.stand_in("storeless", "sockets") as server:
        return {"socket": await _socket_kibibytes(bench, server)}


async def _socket_kibibytes(bench: Bench, server: Server) -> float:
    """Return what an idle socket adds to the server."""
    sockets = bench.scale.idle_sockets
    before = _resident(server)
    async with running_load("benchmarks.load.idle_sockets", Order(port=server.port, sockets=sockets)):
        await asyncio.sleep(_SETTLE_SECONDS)
        return (_resident(server) - before) / sockets / 1024


def _resident(server: Server) -> float:
    resident = resident_bytes(server.process_id)
    return math.nan if resident is None else resident


FIGURES = (
    Figure(
        key="memory",
        yardstick=_empty_sockets,
        measure=_memory,
        only_empty=True,
        marks=(
            Mark(
                title="memory after 200,000 jobs",
                measured=f"memory.{Store.EMPTY}.resident",
                unit=Unit.MEGABYTES,
                most=120,
            ),
            Mark(
                title="then each of 1,000 idle sockets",
                measured=f"memory.{Store.EMPTY}.socket",
                unit=Unit.KIBIBYTES,
                yardstick=f"memory.{YARDSTICK}.socket",
                yardstick_title="an empty handler's",
                most=50,
            ),
        ),
    ),
)
