"""Drain stored jobs: one worker connection with 1,000 credits, every result awaited."""

from ..load import producer, worker
from ..rig.bench import Bench
from ..rig.children import Server, run_load
from ..rig.stores import Store
from .figure import Figure, Numbers, load_mark, rate_marks
from .raw import raw_drain

_SECONDS = 60.0


async def _drain(bench: Bench, store: Store) -> Numbers:
    """Drain with arrays of messages, then with one message per frame."""
    scale = bench.scale
    async with bench.service(store) as server:
        await fill_and_drain(server, scale.warm_drain_jobs)
        arrays = await fill_and_drain(server, scale.drain_jobs)
        frames = await fill_and_drain(server, scale.drain_jobs, batch=False)
    return {"rate": arrays.jobs / arrays.seconds, "frames": frames.jobs / frames.seconds}


async def fill_and_drain(server: Server, jobs: int, *, batch: bool = True) -> worker.Outcome:
    """Enqueue jobs in bulks, then let a worker complete them all."""
    await run_load(
        "benchmarks.load.producer",
        producer.Order(kind=producer.Kind.FILL, port=server.port, jobs=jobs),
        producer.Outcome,
        seconds=_SECONDS,
    )
    order = worker.Order(port=server.port, jobs=jobs, batch=batch)
    return await run_load("benchmarks.load.worker", order, worker.Outcome, seconds=_SECONDS)


async def _load(bench: Bench) -> Numbers:
    jobs = bench.scale.drain_jobs
    async with bench.stand_in("canned_stream", str(jobs)) as server:
        order = worker.Order(port=server.port, jobs=jobs)
        outcome = await run_load("benchmarks.load.worker", order, worker.Outcome, seconds=_SECONDS)
    return {"rate": outcome.jobs / outcome.seconds}


FIGURES = (
    Figure(
        key="drain",
        yardstick=raw_drain,
        measure=_drain,
        load=_load,
        marks=(
            *rate_marks("drain", "drain 20,000 jobs, arrays", least=0.45, compared="raw claim + acknowledge"),
            *rate_marks(
                "drain", "drain, one message a frame", quantity="frames", least=None, compared="raw claim + acknowledge"
            ),
            load_mark("drain"),
        ),
    ),
)
