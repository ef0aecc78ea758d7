"""A process of stream workers, to be killed, paused or ended by SIGTERM: `python -m tests.history.worker_process`."""

import argparse
import asyncio
import signal
from pathlib import Path
from random import Random

from msgspec import Struct

from tests.history.lines import Recorder
from tests.history.stream_worker import StreamWorker, Style


class Arguments(Struct, frozen=True):
    """What such a process is told."""

    url: str
    history: Path
    executors: list[str]
    seed: int
    longest_life_seconds: float
    """Of a connection."""


async def work(given: Arguments) -> None:
    """Serve each executor with workers of two styles until SIGTERM."""
    recorder, dice = Recorder(given.history), Random(given.seed)
    workers = []
    for executor in given.executors:
        for prefetches in (True, False):
            style = Style(dice.choice([1, 4, 20]), prefetches, dice.random() < 0.5, given.longest_life_seconds)
            workers.append(StreamWorker(given.url, executor, style, recorder, dice))

    def leave() -> None:
        for worker in workers:
            worker.leave()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leave)
    print("working", flush=True)
    async with asyncio.TaskGroup() as tasks:
        for worker in workers:
            tasks.create_task(worker.run())


def read_arguments() -> Arguments:
    """Read the command's arguments."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("history", type=Path)
    parser.add_argument("--executors", nargs="+", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest-life-seconds", type=float, default=5.0)
    given = parser.parse_args()
    return Arguments(given.url, given.history, given.executors, given.seed, given.longest_life_seconds)


if __name__ == "__main__":
    asyncio.run(work(read_arguments()))
