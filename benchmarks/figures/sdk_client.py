"""The Python client as a producer: one enqueue after the other, and single enqueues that it collects into bulks."""

from ..load.sdk_client import Order, Outcome, Way
from ..rig.bench import Bench
from ..rig.children import run_load
from ..rig.stores import Store
from .figure import YARDSTICK, Figure, Mark, Numbers, Unit

_MODULE = "benchmarks.load.sdk_client"
_SECONDS = 60.0
_COLLECTED_JOBS = 50_000


async def _one_by_one(bench: Bench, store: Store, way: Way) -> Numbers:
    async with bench.service(store) as server:
        order = Order(way=way, port=server.port, seconds=bench.scale.flood_seconds)
        outcome = await run_load(_MODULE, order, Outcome, seconds=_SECONDS)
    return {"rate": outcome.jobs / outcome.seconds, "cpu": outcome.cpu_seconds / outcome.jobs * 1_000}


async def _bare(bench: Bench) -> Numbers:
    return await _one_by_one(bench, Store.EMPTY, Way.BARE)


async def _single(bench: Bench, store: Store) -> Numbers:
    return await _one_by_one(bench, store, Way.SINGLE)


async def _collected(bench: Bench, store: Store) -> Numbers:
    async with bench.service(store) as server:
        order = Order(way=Way.COLLECTED, port=server.port, jobs=_COLLECTED_JOBS)
        outcome = await run_load(_MODULE, order, Outcome, seconds=_SECONDS)
    return {"rate": outcome.jobs / outcome.seconds, "cpu": outcome.cpu_seconds / outcome.jobs * 1_000}


async def _nothing(_: Bench) -> Numbers:
    return {}


FIGURES = (
    Figure(
        key="sdk-enqueue",
        yardstick=_bare,
        measure=_single,
        only_empty=True,
        marks=(
            Mark(
                title="Python client, enqueue one by one",
                measured=f"sdk-enqueue.{Store.EMPTY}.rate",
                unit=Unit.RATE,
                yardstick=f"sdk-enqueue.{YARDSTICK}.rate",
                yardstick_title="bare httpx2",
                least_ratio=1 / 1.3,
            ),
            Mark(
                title="- its processor time for each",
                measured=f"sdk-enqueue.{Store.EMPTY}.cpu",
                unit=Unit.MILLISECONDS,
                yardstick=f"sdk-enqueue.{YARDSTICK}.cpu",
                yardstick_title="bare httpx2",
            ),
        ),
    ),
    Figure(
        key="sdk-bulk",
        yardstick=_nothing,
        measure=_collected,
        only_empty=True,
        marks=(
            Mark(
                title="Python client, enqueues collected",
                measured=f"sdk-bulk.{Store.EMPTY}.rate",
                unit=Unit.RATE,
                least=40_000,
            ),
            Mark(
                title="- its processor time for each",
                measured=f"sdk-bulk.{Store.EMPTY}.cpu",
                unit=Unit.MILLISECONDS,
            ),
        ),
    ),
)
