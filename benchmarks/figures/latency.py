"""Pickup, from the POST to the worker at 500 jobs a second; and lateness, how long after its time a job arrives."""

from collections.abc import Sequence
from typing import Protocol

from msgspec.structs import replace

from ..load import producer, worker
from ..rig.bench import Bench
from ..rig.children import Server, outcome_of, run_load, running_load
from ..rig.stores import Store
from .figure import Figure, Mark, Numbers, Unit, latency_marks
from .raw import raw_commits
from .summary import percentile

CONNECTIONS = 16
_LEAD_SECONDS = 1.0


class Arrivals(Protocol):
    """What a worker of whatever kind noted."""

    @property
    def numbers(self) -> Sequence[int]:
        """The job numbers in the order of arrival."""

    @property
    def arrived_at(self) -> Sequence[int]:
        """When each arrived: nanoseconds of the monotonic clock."""


async def _pickup(bench: Bench, store: Store) -> Numbers:
    scale = bench.scale
    jobs = scale.pickup_warm_jobs + scale.pickup_jobs
    order = producer.Order(
        kind=producer.Kind.PACE,
        port=0,
        connections=CONNECTIONS,
        jobs=jobs,
        per_second=scale.pickups_per_second,
    )
    async with bench.service(store) as server:
        sent, arrived = await produce_and_work(server, order)
    waits = waits_of(sent, arrived, after=scale.pickup_warm_jobs)
    return {
        "p50": percentile(waits, 50),
        "p99": percentile(waits, 99),
        "behind": sent.behind_seconds * 1_000,
    }


async def _lateness(bench: Bench, store: Store) -> Numbers:
    scale = bench.scale
    order = producer.Order(
        kind=producer.Kind.PLAN,
        port=0,
        jobs=scale.lateness_jobs,
        seconds=scale.lateness_seconds,
        lead_seconds=_LEAD_SECONDS,
    )
    async with bench.service(store) as server:
        _, arrived = await produce_and_work(server, order)
    late = [microseconds / 1_000 for microseconds in arrived.late_microseconds]
    return {
        "p50": percentile(late, 50),
        "p99": percentile(late, 99),
        "early": float(sum(milliseconds < 0 for milliseconds in late)),
    }


async def produce_and_work(
    server: Server, order: producer.Order, *, at: Server | None = None
) -> tuple[producer.Outcome, worker.Outcome]:
    """Let a worker wait, at another server if one is given, then produce; return what both of them noted."""
    seconds = order.lead_seconds + order.seconds + (order.jobs / order.per_second if order.per_second else 0)
    waiting = worker.Order(port=(at or server).port, jobs=order.jobs, record=True)
    async with running_load("benchmarks.load.worker", waiting) as working:
        produced = await run_load(
            "benchmarks.load.producer", replace(order, port=server.port), producer.Outcome, seconds=seconds
        )
        return produced, await outcome_of(working, worker.Outcome, seconds=seconds)


def waits_of(sent: producer.Outcome, arrived: Arrivals, *, after: int = 0) -> list[float]:
    """Return how many milliseconds each job was under way, in the order of arrival, without the first."""
    return [
        (at - sent.sent_at[n]) / 1e6 for n, at in zip(arrived.numbers, arrived.arrived_at, strict=True) if n >= after
    ]


FIGURES = (
    Figure(
        key="pickup",
        yardstick=raw_commits,
        measure=_pickup,
        marks=(
            *latency_marks("pickup", "pickup at 500/s", quantity="p50", most_ratio=6.0, most=None),
            *latency_marks("pickup", "pickup at 500/s", quantity="p99", most_ratio=4.0, most=5.0),
        ),
    ),
    Figure(
        key="lateness",
        yardstick=raw_commits,
        measure=_lateness,
        marks=(
            *latency_marks("lateness", "lateness", quantity="p50", most_ratio=None, most=1.5),
            *latency_marks("lateness", "lateness", quantity="p99", most_ratio=4.0, most=6.0),
            Mark(title="lateness, jobs that came early", measured="lateness.empty.early", unit=Unit.JOBS, most=0),
            Mark(title="- with jobs stored", measured="lateness.stored.early", unit=Unit.JOBS, most=0),
            Mark(title="- the same, 1,000 priorities", measured="lateness.priorities.early", unit=Unit.JOBS, most=0),
        ),
    ),
)
