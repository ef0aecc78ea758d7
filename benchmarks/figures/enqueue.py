"""Enqueue: one at a time, 50 in flight, in bulks of 1,000."""

from ..load.producer import Kind, Order, Outcome
from ..rig.bench import Bench
from ..rig.children import Server, run_load
from ..rig.stores import Store
from .figure import Figure, Numbers, load_mark, rate_marks
from .raw import raw_bulks, raw_commits

_CONNECTIONS = 50


async def _flood(bench: Bench, server: Server, *, kind: Kind = Kind.FLOOD, connections: int = 1) -> Numbers:
    scale = bench.scale
    order = Order(
        kind=kind,
        port=server.port,
        connections=connections,
        warm_seconds=scale.warm_seconds,
        seconds=scale.flood_seconds,
    )
    outcome = await run_load("benchmarks.load.producer", order, Outcome, seconds=scale.flood_seconds)
    return {"rate": outcome.jobs / outcome.seconds}


async def _one_at_a_time(bench: Bench, store: Store) -> Numbers:
    async with bench.service(store) as server:
        return await _flood(bench, server)


async def _concurrent(bench: Bench, store: Store) -> Numbers:
    async with bench.service(store) as server:
        return await _flood(bench, server, connections=_CONNECTIONS)


async def _bulks(bench: Bench, store: Store) -> Numbers:
    async with bench.service(store) as server:
        return await _flood(bench, server, kind=Kind.BULKS)


async def _storeless(bench: Bench) -> Numbers:
    async with bench.stand_in("storeless") as server:
        return await _flood(bench, server, connections=_CONNECTIONS)


async def _load_one(bench: Bench) -> Numbers:
    async with bench.stand_in("canned_http") as server:
        return await _flood(bench, server)


async def _load_concurrent(bench: Bench) -> Numbers:
    async with bench.stand_in("canned_http") as server:
        return await _flood(bench, server, connections=_CONNECTIONS)


async def _load_bulks(bench: Bench) -> Numbers:
    async with bench.stand_in("canned_http") as server:
        return await _flood(bench, server, kind=Kind.BULKS)


FIGURES = (
    Figure(
        key="enqueue-one",
        yardstick=raw_commits,
        measure=_one_at_a_time,
        load=_load_one,
        marks=(
            *rate_marks("enqueue-one", "enqueue, one at a time", least=0.35, compared="raw durable commits"),
            load_mark("enqueue-one"),
        ),
    ),
    Figure(
        key="enqueue-50",
        yardstick=_storeless,
        measure=_concurrent,
        load=_load_concurrent,
        marks=(
            *rate_marks("enqueue-50", "enqueue, 50 in flight", least=0.75, compared="the route, storeless"),
            load_mark("enqueue-50"),
        ),
    ),
    Figure(
        key="enqueue-bulk",
        yardstick=raw_bulks,
        measure=_bulks,
        load=_load_bulks,
        marks=(
            *rate_marks("enqueue-bulk", "enqueue, bulks of 1,000", least=0.3, compared="raw executemany"),
            load_mark("enqueue-bulk"),
        ),
    ),
)
