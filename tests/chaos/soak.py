"""The soak: hours in minutes, with sockets that come and go; what grows is measured."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import httpx2
from msgspec import Struct
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from tests.chaos.rig import EXECUTORS, Rig, Verdict, judged
from tests.history.lines import Answered, AnyLine, Called, Delivered, read_history

SAMPLE_SECONDS = 5.0
_CHURN_SECONDS = 0.2
_WARM_UP = 0.25
"""The part of the soak whose growth is that of caches; slopes are of the rest."""


_MARKS = {"resident_mib": 20.0, "open_files": 15.0, "threads": 3.0, "tasks": 15.0, "wal_mib": 16.0}
"""By how much each may have grown in the end, by its slope, once the service was warm."""


class Sample(Struct, frozen=True):
    """The server at a time."""

    at: float
    resident_mib: float
    open_files: int
    threads: int
    tasks: float | None
    wal_mib: float


async def soak(folder: Path, seconds: int, seed: int) -> Verdict:
    """Run under load for some seconds, sockets coming and going, and measure what grows."""
    rig = Rig(folder, seed)
    samples: list[Sample] = []

    async def run() -> None:
        async with rig.running(pause_seconds=0.1):
            churning = asyncio.create_task(_churn(rig))
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                await asyncio.sleep(min(SAMPLE_SECONDS, max(0.1, seconds / 20)))
                samples.append(await _sample(rig))
            churning.cancel()
            with suppress(asyncio.CancelledError):
                await churning
        told, beyond = growth(samples)
        rig.figures += told
        rig.faults += beyond
        files = sorted(rig.folder.glob("*.history"))
        rig.figures += await asyncio.to_thread(lambda: _latencies(list(read_history(files))))

    return await judged("soak", f"{seconds} s, sockets coming and going", rig, run())


async def _churn(rig: Rig) -> None:
    """Connect and leave, politely or not, five times a second."""
    url = f"ws://127.0.0.1:{rig.server.settings['port']}/v1/executors/idle/subscribe?prefetch=1"
    while True:
        with suppress(OSError, WebSocketException, TimeoutError):
            async with connect(url, proxy=None, close_timeout=1) as socket:
                await socket.recv()
                if rig.dice.random() < 0.5:
                    socket.transport.abort()
        await asyncio.sleep(_CHURN_SECONDS)


async def _sample(rig: Rig) -> Sample:
    process = Path("/proc") / str(rig.server.pid)
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    wal = Path(f"{rig.server.database}-wal")
    return Sample(
        at=time.monotonic(),
        resident_mib=int(status["VmRSS"].split()[0]) / 1024,
        open_files=len(list((process / "fd").iterdir())),
        threads=int(status["Threads"]),
        tasks=await _tasks(rig),
        wal_mib=wal.stat().st_size / 2**20 if wal.exists() else 0.0,
    )


async def _tasks(rig: Rig) -> float | None:
    """Return how many asyncio tasks the server says that it has, None where it does not say."""
    async with httpx2.AsyncClient(trust_env=False, timeout=5) as http:
        answer = await http.get(f"{rig.server.url}/metrics")
    for line in answer.text.splitlines() if answer.status_code == 200 else []:
        if line.startswith("rexecutor_tasks "):
            return float(line.split()[1])
    return None


def growth(samples: Sequence[Sample]) -> tuple[list[str], list[str]]:
    """Return what was measured, in sentences, and what grew beyond its mark once the service was warm."""
    warm = samples[int(len(samples) * _WARM_UP) :]
    times = [sample.at for sample in warm]
    told, beyond = [], []
    for name, mark in _MARKS.items():
        values = [getattr(sample, name) for sample in warm]
        if None in values:
            told.append(f"{name}: not told by the service")
            continue
        slope = _slope(times, values)
        grown = slope * (times[-1] - times[0])
        told.append(
            f"{name}: {values[0]:.1f} → {values[-1]:.1f}, at most {max(values):.1f}, {slope * 3_600:+.1f} an hour"
        )
        if grown > mark:
            beyond.append(f"{name} grew by {grown:.1f}, the mark is {mark}")
    return told, beyond


def _slope(times: Sequence[float], values: Sequence[float]) -> float:
    """Return the slope of the line of least squares."""
    middle_time, middle = sum(times) / len(times), sum(values) / len(values)
    spread = sum((at - middle_time) ** 2 for at in times)
    product = sum((at - middle_time) * (value - middle) for at, value in zip(times, values, strict=True))
    return product / spread if spread else 0.0


def _latencies(lines: Sequence[AnyLine]) -> list[str]:
    """Return p50 and p99 of enqueue and pickup in the first and the last third of the time."""
    asked = {line.call: line for line in lines if isinstance(line, Called) and line.operation == "enqueue"}
    enqueues: list[tuple[int, float]] = []
    committed: dict[int, int] = {}
    for line in lines:
        if isinstance(line, Answered) and line.call in asked and line.job_ids:
            at = asked[line.call].at
            enqueues.append((at, (line.at - at) / 1_000))
            committed.update((job_id, at) for job_id in line.job_ids if asked[line.call].executor in EXECUTORS)
    first = {line.job_id: line for line in lines if isinstance(line, Delivered) and line.fence == 1}
    pickups = [
        (at, (first[job_id].at - at) / 1_000)
        for job_id, at in committed.items()
        if job_id in first and first[job_id].scheduled_at <= at + 100_000
    ]
    return [*_thirds("enqueue", enqueues), *_thirds("enqueue to pickup", pickups)]


def _thirds(name: str, measured: list[tuple[int, float]]) -> list[str]:
    measured.sort()
    third = len(measured) // 3
    told = []
    for which, part in (("first", measured[:third]), ("last", measured[-third:])):
        values = sorted(value for _, value in part)
        if values:
            half, most = values[len(values) // 2], values[int(len(values) * 0.99)]
            told.append(f"{name}, {which} third: p50 {half:.1f} ms, p99 {most:.1f} ms")
    return told
