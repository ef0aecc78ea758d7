"""Executors whose functions keep a processor busy: a process of its own imports this module to find them."""

import os
import time
from datetime import timedelta
from pathlib import Path

from rexecutor_client import Executor, Job, Snooze, executor


class TwoReasons(Exception):
    """Cannot be taken out of a pickle."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


@executor("adds", cpu_bound=True)
def add(job: Job[list[int]]) -> Snooze:
    return Snooze(timedelta(seconds=sum(job.data)))


@executor("fails", cpu_bound=True)
def fail(_: Job) -> None:
    raise TwoReasons("this", "that")


@executor("dies", cpu_bound=True)
def die(_: Job) -> None:
    os._exit(3)


@executor("tells", cpu_bound=True, max_concurrency=1)
def tell(job: Job[str]) -> None:
    """Tell its process in a file."""
    Path(job.data).write_text(str(os.getpid()))


@executor("unpicklable", cpu_bound=True, max_concurrency=1)
def unpicklable(job: Job[str]) -> object:
    """Tell its process in a file, and return what does not find its way out of it."""
    with Path(job.data).open("a") as told:
        told.write(f"{os.getpid()}\n")
    return lambda: None


@executor("hurried", cpu_bound=True, max_concurrency=1, timeout=timedelta(milliseconds=100))
def hurried(_: Job) -> None:
    """Take less time than a process takes to begin."""


@executor("awaits", cpu_bound=True)
async def wait(_: Job) -> Snooze:
    return Snooze(timedelta(seconds=5))


@executor("spins", cpu_bound=True, max_concurrency=1)
def spin(job: Job[str]) -> None:
    """Tell its process in a file, and never end."""
    Path(job.data).write_text(str(os.getpid()))
    while True:
        time.sleep(0.01)


class Multiplies(Executor[list[int]]):
    name = "multiplies"
    cpu_bound = True

    def execute(self, job: Job[list[int]]) -> Snooze:
        return Snooze(timedelta(seconds=job.data[0] * job.data[1]))


multiplies = Multiplies()
