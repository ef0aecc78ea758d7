"""The Python client's worker: how fast it drains stored jobs, at what cost, and how soon it picks up a new one."""

from ..load import producer, sdk_worker
from ..rig.bench import Bench
from ..rig.children import Server, outcome_of, run_load, running_load
from ..rig.machine import cpu_seconds
from ..rig.stores import Store
from .figure import Figure, Mark, Numbers, Unit
from .latency import CONNECTIONS, waits_of
from .raw import raw_commits, raw_drain
from .summary import percentile

_SECONDS = 60.0


async def _drain(bench: Bench, store: Store) -> Numbers:
    async with bench.service(store) as server:
        await _fill_and_drain(server, bench.scale.warm_drain_jobs)
        return await _fill_and_drain(server, bench.scale.drain_jobs)


async def _fill_and_drain(server: Server, jobs: int) -> Numbers:
    await run_load(
        "benchmarks.load.producer",
        producer.Order(kind=producer.Kind.FILL, port=server.port, jobs=jobs),
        producer.Outcome,
        seconds=_SECONDS,
    )
    before = cpu_seconds(server.process_id)
    outcome = await run_load(
        "benchmarks.load.sdk_worker",
        sdk_worker.Order(port=server.port, jobs=jobs),
        sdk_worker.Outcome,
        seconds=_SECONDS,
    )
    return {
        "rate": outcome.jobs / outcome.seconds,
        "worker": outcome.cpu_seconds / outcome.jobs * 1e6,
        "server": (cpu_seconds(server.process_id) - before) / outcome.jobs * 1e6,
    }


async def _pickup(bench: Bench, store: Store) -> Numbers:
    scale = bench.scale
    jobs = scale.pickup_warm_jobs + scale.pickup_jobs
    seconds = jobs / scale.pickups_per_second
    async with bench.service(store) as server:
        order = sdk_worker.Order(port=server.port, jobs=jobs)
        async with running_load("benchmarks.load.sdk_worker", order) as working:
            sent = await run_load(
                "benchmarks.load.producer",
                producer.Order(
                    kind=producer.Kind.PACE,
                    port=server.port,
                    connections=CONNECTIONS,
                    jobs=jobs,
                    per_second=scale.pickups_per_second,
                ),
                producer.Outcome,
                seconds=seconds,
            )
            arrived = await outcome_of(working, sdk_worker.Outcome, seconds=seconds)
    waits = waits_of(sent, arrived, after=scale.pickup_warm_jobs)
    return {"p50": percentile(waits, 50), "p99": percentile(waits, 99)}


FIGURES = (
    Figure(
        key="sdk-drain",
        yardstick=raw_drain,
        measure=_drain,
        only_empty=True,
        marks=(
            Mark(
                title="Python client: a worker drains 20,000 jobs, 100 at once",
                measured=f"sdk-drain.{Store.EMPTY}.rate",
                unit=Unit.RATE,
                least=12_000,
            ),
            Mark(
                title="- processor time of the worker, each job",
                measured=f"sdk-drain.{Store.EMPTY}.worker",
                unit=Unit.MICROSECONDS,
            ),
            Mark(
                title="- of the server",
                measured=f"sdk-drain.{Store.EMPTY}.server",
                unit=Unit.MICROSECONDS,
            ),
        ),
    ),
    Figure(
        key="sdk-pickup",
        yardstick=raw_commits,
        measure=_pickup,
        only_empty=True,
        marks=(
            Mark(
                title="Python client: pickup at 500/s, p50",
                measured=f"sdk-pickup.{Store.EMPTY}.p50",
                unit=Unit.MILLISECONDS,
                most=2.0,
            ),
            Mark(
                title="Python client: pickup at 500/s, p99",
                measured=f"sdk-pickup.{Store.EMPTY}.p99",
                unit=Unit.MILLISECONDS,
            ),
        ),
    ),
)
