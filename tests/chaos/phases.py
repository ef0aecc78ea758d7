"""The phases: each makes one kind of fault again and again under load."""

import asyncio
import signal
import sqlite3
import subprocess
import time
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from pathlib import Path

from app.observability.failpoints import EXIT_STATUS
from app.store.idempotency import KEPT_MICROSECONDS
from tests.chaos.proxy import Proxy
from tests.chaos.rig import DRAIN_SECONDS, LEASE_SECONDS, RAW_WORKER, Rig, Verdict, judged
from tests.history.lines import now

Phase = Callable[[Path, int, int], Awaitable[Verdict]]
_DRAIN_SLACK_SECONDS = 1.0
"""For the process to end once its time is up, on a machine that is busy with all this."""
FUNCTIONS = [
    "insert_jobs",
    "claim_jobs",
    "acknowledge",
    "rescue_jobs",
    "delete_jobs",
    "resume_sessions",
    "confirm_resumes",
    "close_sessions",
    "open_leases",
]
FUNCTIONS += ["renew_sessions", "renew_jobs", "rerun_jobs", "update_jobs", "insert_once", "rerun_once"]
FUNCTIONS += ["forget_answers"]
POINTS = [f"{function}.{moment}_commit" for function in FUNCTIONS for moment in ("before", "after")]
POINTS += ["answer.before", "answer.middle", "frame.before", "frame.middle", "drain.begun", "drain.waiting"]
_POINT_SECONDS = 10
_SWEEP_SECONDS = 75
"""In which the service looks at least once for answers to forget."""
_REPEATED_SECONDS = 60
"""After which no client repeats a call: what it was answered may be forgotten."""


async def kills(folder: Path, count: int, seed: int) -> Verdict:
    """Kill the server, at any moment, and start it again on the same file."""
    rig = Rig(folder, seed)

    async def run() -> None:
        async with rig.running():
            for _ in range(count):
                await asyncio.sleep(rig.dice.uniform(0.1, 1.5))
                await asyncio.to_thread(rig.server.kill)
                await asyncio.to_thread(rig.server.start)

    return await judged("kills", f"{count} × kill -9 of the server", rig, run())


async def workers(folder: Path, count: int, seed: int, *, worker: str = RAW_WORKER) -> Verdict:
    """Kill processes of workers; others come in their place."""
    rig = Rig(folder, seed, worker=worker)

    async def run() -> None:
        async with rig.running():
            for _ in range(count):
                await asyncio.sleep(rig.dice.uniform(0.1, 1.0))
                await rig.replace_worker(rig.dice.choice(rig.workers))

    return await judged("workers", f"{count} × kill -9 of workers", rig, run())


async def pauses(folder: Path, count: int, seed: int, *, worker: str = RAW_WORKER) -> Verdict:
    """Let workers stand still beyond their lease; they go on as if nothing had been."""
    rig = Rig(folder, seed, worker=worker)

    async def run() -> None:
        async with rig.running():
            for _ in range(count):
                await asyncio.sleep(rig.dice.uniform(0.2, 0.8))
                paused = rig.dice.choice(rig.workers)
                paused.signal(signal.SIGSTOP)
                await asyncio.sleep(LEASE_SECONDS * rig.dice.uniform(0.8, 3.0))
                paused.signal(signal.SIGCONT)

    return await judged("pauses", f"{count} × SIGSTOP of workers, mostly beyond their lease", rig, run())


async def proxy(folder: Path, count: int, seed: int, *, worker: str = RAW_WORKER) -> Verdict:
    """Let the network between workers and server, and between callers and server, stall, break and lie."""
    rig = Rig(folder, seed, worker=worker)
    between_workers, between_callers = Proxy(0), Proxy(0)

    async def run() -> None:
        await asyncio.to_thread(rig.server.start)
        rig.longest_life_seconds = 20.0
        for each in (between_workers, between_callers):
            each.target = int(rig.server.settings["port"])
        async with (
            between_workers.running(),
            between_callers.running(),
            rig.running(through=between_workers.port, rest_through=between_callers.port),
        ):
            for number in range(count):
                await asyncio.sleep(rig.dice.uniform(0.1, 1.0))
                await _afflict(rig, between_workers if number % 3 else between_callers, number)

    return await judged("proxy", f"{count} × stall, half-open (both ways), reset, delay", rig, run())


async def _afflict(rig: Rig, afflicted: Proxy, number: int) -> None:
    match number % 5:
        case 0:
            await afflicted.stall(LEASE_SECONDS * rig.dice.uniform(0.3, 3.0))
        case 1:
            afflicted.lose_clients()
        case 2:
            afflicted.reset()
        case 3:
            afflicted.lose_server()
        case 4:
            await afflicted.delay(0.05, LEASE_SECONDS * rig.dice.uniform(0.5, 2.0))


async def drains(folder: Path, count: int, seed: int) -> Verdict:
    """End the server with SIGTERM at any moment; it must exit with 0 in its time."""
    rig = Rig(folder, seed)
    took: list[float] = []

    async def run() -> None:
        async with rig.running():
            for _ in range(count):
                await asyncio.sleep(rig.dice.uniform(0.0, 2.0))
                began_at = time.monotonic()
                status = await asyncio.to_thread(rig.server.stop)
                took.append(time.monotonic() - began_at)
                if status != 0:
                    rig.faults.append(f"a drain exited with {status}")
                if took[-1] > DRAIN_SECONDS + _DRAIN_SLACK_SECONDS:
                    rig.faults.append(f"a drain took {took[-1]:.1f} s of {DRAIN_SECONDS}")
                await asyncio.to_thread(rig.server.start)
        rig.figures.append(f"drains took {min(took):.2f} to {max(took):.2f} s of {DRAIN_SECONDS} s")

    return await judged("drains", f"{count} × SIGTERM and a new start", rig, run())


async def deploys(folder: Path, count: int, seed: int, *, worker: str = RAW_WORKER) -> Verdict:
    """Replace workers and the server by turns, each with SIGTERM: it must exit with 0."""
    rig = Rig(folder, seed, worker=worker)

    async def run() -> None:
        async with rig.running():
            for number in range(count):
                await asyncio.sleep(rig.dice.uniform(0.2, 1.5))
                if number % 2:
                    status = await asyncio.to_thread(rig.server.stop)
                    await asyncio.to_thread(rig.server.start)
                else:
                    status = await rig.deploy_worker(rig.dice.choice(rig.workers))
                if status != 0:
                    rig.faults.append(f"{'the server' if number % 2 else 'a worker'} exited with {status}")

    return await judged("deploys", f"{count} × SIGTERM of a worker or the server, and a new one", rig, run())


async def failpoints(folder: Path, count: int, seed: int) -> Verdict:
    """Let the server exit at each of its failpoints in turn, ``count`` of them."""
    return await exit_at_each("failpoints", Rig(folder, seed), POINTS[:count])


async def exit_at_each(phase: str, rig: Rig, points: list[str]) -> Verdict:
    """Let the server of a rig exit at each of these points in turn."""
    reached: list[str] = []

    async def run() -> None:
        async with rig.running():
            forgettable_at = time.monotonic() + _REPEATED_SECONDS + _POINT_SECONDS
            await asyncio.to_thread(rig.server.stop)
            for point in points:
                passes = 1 if point.startswith(("drain", "forget")) else rig.dice.choice([1, 2, 5])
                rig.server.settings["failpoints"] = f"{point}=exit@{passes}"
                if point.startswith("forget"):
                    await asyncio.sleep(forgettable_at - time.monotonic())
                    _let_answers_expire(rig)
                await asyncio.to_thread(rig.server.start)
                status = await _exit_at(rig, point)
                if status == EXIT_STATUS:
                    reached.append(point)
                elif status != 0:
                    rig.faults.append(f"exit status {status} at {point}")
            rig.server.settings["failpoints"] = ""
            await asyncio.to_thread(rig.server.start)
        missed = [point for point in points if point not in reached]
        if missed:
            rig.figures.append("never reached: " + ", ".join(missed))

    verdict = await judged(phase, "", rig, run())
    verdict.did = f"exit at {len(reached)} of {len(points)} points"
    return verdict


async def _exit_at(rig: Rig, point: str) -> int:
    """Wait for the exit; what makes the point come by is the load, or a drain. Return the status."""
    if point.startswith("drain."):
        await asyncio.sleep(1)
        return await asyncio.to_thread(rig.server.stop)
    seconds = _SWEEP_SECONDS if point.startswith("forget") else _POINT_SECONDS
    # Only where it is needed: what is pruned can't be judged any more.
    pressing = [asyncio.create_task(rig.client.press())] if point.startswith(("delete", "rerun")) else []
    try:
        return await asyncio.to_thread(rig.server.wait, seconds)
    except subprocess.TimeoutExpired:
        return 0
    finally:
        for task in pressing:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def _let_answers_expire(rig: Rig) -> None:
    """Age the answers that nobody asks for again, in the file of a server that is down: a day is too long to wait."""
    kept_since = now() + KEPT_MICROSECONDS - _REPEATED_SECONDS * 1_000_000
    with closing(sqlite3.connect(rig.server.database)) as database, database:
        database.execute("UPDATE idempotency_keys SET expires_at = 1 WHERE expires_at <= ?", (kept_since,))


async def short(folder: Path, count: int, seed: int) -> Verdict:
    """A little of everything: kills, a pause, a network that breaks, and a drain, ``count`` times."""
    rig = Rig(folder, seed)
    between = Proxy(0)

    async def run() -> None:
        await asyncio.to_thread(rig.server.start)
        between.target = int(rig.server.settings["port"])
        async with between.running(), rig.running(through=between.port):
            for _ in range(count):
                await asyncio.sleep(1.0)  # the load itself, here and below
                worker = rig.dice.choice(rig.workers)
                worker.signal(signal.SIGSTOP)
                await asyncio.sleep(2.0 * LEASE_SECONDS)
                worker.signal(signal.SIGCONT)
                between.lose_clients()
                await asyncio.sleep(0.5)
                await asyncio.to_thread(rig.server.kill)
                await asyncio.to_thread(rig.server.start)
                await asyncio.sleep(0.5)
                await rig.replace_worker(rig.dice.choice(rig.workers))
                between.reset()
                await asyncio.sleep(0.5)
                if status := await asyncio.to_thread(rig.server.stop):
                    rig.faults.append(f"a drain exited with {status}")
                await asyncio.to_thread(rig.server.start)

    return await judged("short", f"{count} × pause, half-open, kill, reset and drain", rig, run())
