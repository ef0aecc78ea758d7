"""The table on PostgreSQL: the same measurements with marks of their own, two servers, costs, and a long run."""

import asyncio

from msgspec.structs import replace

from ..load import producer
from ..rig.bench import Bench
from ..rig.machine import cpu_seconds
from ..rig.postgres import run
from ..rig.stores import Store
from .drain import FIGURES as DRAIN
from .drain import fill_and_drain
from .enqueue import FIGURES as ENQUEUE
from .figure import Figure, Mark, Numbers, Unit, latency_marks, load_mark, rate_marks
from .latency import FIGURES as LATENCY
from .latency import produce_and_work, waits_of
from .raw import raw_commits
from .summary import percentile

_BY_KEY = {figure.key: figure for figure in (*ENQUEUE, *DRAIN, *LATENCY)}
_CONNECTIONS = 16
_MINUTE_SECONDS = 60
_COUNT_STATEMENTS = "CREATE EXTENSION IF NOT EXISTS pg_stat_statements"
_WORK = """
SELECT (SELECT sum(calls) FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = '{name}')),
       pg_current_wal_lsn() - '0/0'::pg_lsn,
       (SELECT xact_commit FROM pg_stat_database WHERE datname = '{name}')
"""
_DEAD = "SELECT n_dead_tup, pg_total_relation_size('jobs') FROM pg_stat_user_tables WHERE relname = 'jobs'"


async def _pickup_at_another(bench: Bench, store: Store) -> Numbers:
    """Enqueue at one server; the worker is connected to the other."""
    scale = bench.scale
    jobs = scale.pickup_warm_jobs + scale.pickup_jobs
    order = producer.Order(
        kind=producer.Kind.PACE, port=0, connections=_CONNECTIONS, jobs=jobs, per_second=scale.pickups_per_second
    )
    async with bench.services(store, 2) as (server, other):
        sent, arrived = await produce_and_work(server, order, at=other)
    waits = waits_of(sent, arrived, after=scale.pickup_warm_jobs)
    return {"p50": percentile(waits, 50), "p99": percentile(waits, 99)}


async def _cost(bench: Bench, store: Store) -> Numbers:
    """Enqueue jobs in bulks and drain them; what that took on both sides, for 1,000 jobs."""
    jobs = bench.scale.drain_jobs
    with bench.stores.copy(store) as database:
        run(database, _COUNT_STATEMENTS)
        async with bench.service_on(database) as server:
            await fill_and_drain(server, bench.scale.warm_drain_jobs)
            before = _spent(bench, server.process_id, database)
            await fill_and_drain(server, jobs)
            # What a backend did is told to the statistics within a second.
            await asyncio.sleep(1.5)
            after = _spent(bench, server.process_id, database)
    return {name: (after[name] - before[name]) / jobs for name in after}


async def _sustained(bench: Bench, store: Store) -> Numbers:
    """Enqueue and work at a steady pace for long: whether anything drifts."""
    scale = bench.scale
    jobs = int(scale.sustained_seconds * scale.sustained_per_second)
    order = producer.Order(
        kind=producer.Kind.PACE, port=0, connections=50, jobs=jobs, per_second=scale.sustained_per_second
    )
    with bench.stores.copy(store) as database:
        run(database, _COUNT_STATEMENTS)
        async with bench.service_on(database) as server:
            before = _spent(bench, server.process_id, database)
            sent, arrived = await produce_and_work(server, order)
            await asyncio.sleep(1.5)
            after = _spent(bench, server.process_id, database)
        ((dead, size),) = run(database, _DEAD)
    waits = waits_of(sent, arrived)
    part = int(min(_MINUTE_SECONDS, scale.sustained_seconds / 4) * scale.sustained_per_second)
    first, last = waits[part : 2 * part], waits[-part:]
    return {
        "first": percentile(first, 50),
        "last": percentile(last, 50),
        "first99": percentile(first, 99),
        "last99": percentile(last, 99),
        "dead": float(dead),
        "megabytes": size / 1e6,
        "behind": sent.behind_seconds * 1_000,
        **{name: (after[name] - before[name]) / jobs for name in after},
    }


def _spent(bench: Bench, server: int, database: str) -> Numbers:
    """Return what was spent so far: the processors' time in microseconds, and what PostgreSQL did."""
    name = database.rsplit("/", 1)[1].partition("?")[0]
    ((statements, wal, commits),) = run(database, _WORK.format(name=name))
    return {
        "server": cpu_seconds(server) * 1e6,
        "database": cpu_seconds(bench.stores.process_id or 0, with_children=True) * 1e6,
        "statements": float(statements),
        "commits": float(commits),
        "wal": float(wal),
    }


def _costs(key: str, title: str) -> tuple[Mark, ...]:
    """Microseconds a job are milliseconds for 1,000."""
    return (
        _reported(key, f"{title}, the server's processor", "server", Unit.MILLISECONDS),
        _reported(key, "- PostgreSQL's processor", "database", Unit.MILLISECONDS),
        _reported(key, "- statements a job", "statements", Unit.EACH),
        _reported(key, "- transactions a job", "commits", Unit.EACH),
        _reported(key, "- WAL a job", "wal", Unit.BYTES),
    )


def _reported(key: str, title: str, quantity: str, unit: Unit, *, beside: str | None = None) -> Mark:
    return Mark(
        title=title,
        measured=f"{key}.{Store.EMPTY}.{quantity}",
        unit=unit,
        yardstick=None if beside is None else f"{key}.{Store.EMPTY}.{beside}",
        yardstick_title="in the second minute",
    )


FIGURES = (
    replace(
        _BY_KEY["enqueue-50"],
        marks=(
            *rate_marks("enqueue-50", "enqueue, 50 in flight", least=0.7, compared="the route, storeless"),
            load_mark("enqueue-50"),
        ),
    ),
    replace(
        _BY_KEY["enqueue-bulk"],
        marks=rate_marks("enqueue-bulk", "enqueue, bulks of 1,000", least=0.3, compared="raw unnest"),
    ),
    replace(
        _BY_KEY["drain"],
        marks=(
            *rate_marks("drain", "drain 20,000 jobs, arrays", least=0.6, compared="raw claim + acknowledge of 100"),
            load_mark("drain"),
        ),
    ),
    replace(
        _BY_KEY["pickup"],
        marks=(
            *latency_marks("pickup", "pickup at 500/s", quantity="p50", most_ratio=4.0, most=2.5),
            *latency_marks("pickup", "pickup at 500/s", quantity="p99", most_ratio=4.0, most=10.0),
        ),
    ),
    Figure(
        key="other-pickup",
        yardstick=raw_commits,
        measure=_pickup_at_another,
        only_empty=True,
        marks=(
            *latency_marks("other-pickup", "pickup at another server", quantity="p50", most_ratio=4.0, most=6.0),
            *latency_marks("other-pickup", "pickup at another server", quantity="p99", most_ratio=4.0, most=20.0),
        ),
    ),
    replace(
        _BY_KEY["lateness"],
        marks=(
            *latency_marks("lateness", "lateness", quantity="p50", most_ratio=4.0, most=2.0),
            *latency_marks("lateness", "lateness", quantity="p99", most_ratio=4.0, most=8.0),
            Mark(title="lateness, jobs that came early", measured="lateness.empty.early", unit=Unit.JOBS, most=0),
        ),
    ),
    Figure(
        key="cost",
        yardstick=raw_commits,
        measure=_cost,
        only_empty=True,
        marks=_costs("cost", "cost of 1,000 jobs in bulks"),
    ),
    Figure(
        key="sustained",
        yardstick=raw_commits,
        measure=_sustained,
        only_empty=True,
        only_named=True,
        marks=(
            _reported("sustained", "10 minutes at 1,000/s, last p50", "last", Unit.MILLISECONDS, beside="first"),
            _reported("sustained", "- last p99", "last99", Unit.MILLISECONDS, beside="first99"),
            _reported("sustained", "- dead rows at the end", "dead", Unit.JOBS),
            _reported("sustained", "- table with indexes at the end", "megabytes", Unit.MEGABYTES),
            _reported("sustained", "- the producer's worst delay", "behind", Unit.MILLISECONDS),
            *_costs("sustained", "cost of 1,000 jobs, each by itself"),
        ),
    ),
)
