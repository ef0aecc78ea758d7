"""The raw yardsticks of a round, in a fresh empty database."""

from ..rig.bench import Bench
from ..rig.children import run_load
from ..rig.stores import Store
from ..yardsticks.raw_order import Kind, Order, Outcome
from .figure import Numbers
from .summary import percentile

_SECONDS = 60.0


async def raw_commits(bench: Bench) -> Numbers:
    """Measure durable one-row commits: how many a second, and how long they take."""
    outcome = await _raw(bench, Kind.COMMITS, bench.scale.raw_commits)
    milliseconds = [seconds * 1_000 for seconds in outcome.commit_seconds]
    return {**_rate(outcome), "p50": percentile(milliseconds, 50), "p99": percentile(milliseconds, 99)}


async def raw_bulks(bench: Bench) -> Numbers:
    """Measure inserts of a thousand rows at once, on SQLite without waiting for the disk."""
    return _rate(await _raw(bench, Kind.BULKS, bench.scale.raw_bulk_jobs))


async def raw_drain(bench: Bench) -> Numbers:
    """Measure claiming and acknowledging rows in batches, on SQLite without waiting for the disk."""
    return _rate(await _raw(bench, Kind.DRAIN, bench.scale.drain_jobs))


async def _raw(bench: Bench, kind: Kind, jobs: int) -> Outcome:
    with bench.stores.copy(Store.EMPTY) as database:
        order = Order(kind=kind, database=database, jobs=jobs)
        return await run_load(bench.stores.raw_yardstick, order, Outcome, seconds=_SECONDS)


def _rate(outcome: Outcome) -> Numbers:
    return {"rate": outcome.jobs / outcome.seconds}
