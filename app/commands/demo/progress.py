"""What the demo shows while it runs: a live table on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .client import Json

_FRAMES_A_SECOND = 8
_STYLES = {
    "scheduled": "cyan",
    "executing": "bold yellow",
    "retryable": "magenta",
    "complete": "green",
    "cancelled": "blue",
    "discarded": "red",
}


class Progress(Protocol):
    """Somewhere to show how far the jobs are."""

    def happened(self, job_id: int, event: str) -> None:
        """Show what has just happened to a job."""

    def found(self, jobs: Sequence[Json]) -> None:
        """Show how the jobs stand with the service."""


@contextmanager
def progress_on(console: Console, names: dict[int, str]) -> Iterator[Progress]:
    """Show progress until left; ``names`` are read when they are needed."""
    if not console.is_terminal:
        yield _Lines(names)
        return
    table = _LiveTable(names)
    with Live(console=console, get_renderable=table.render, refresh_per_second=_FRAMES_A_SECOND):
        yield table


class _Lines:
    """A line for each event."""

    def __init__(self, names: dict[int, str]) -> None:
        self._names = names
        self._started_at = time.monotonic()

    def happened(self, job_id: int, event: str) -> None:
        seconds = time.monotonic() - self._started_at
        print(f"{seconds:6.2f} s  {self._names.get(job_id, '?'):22} {event}", flush=True)

    def found(self, jobs: Sequence[Json]) -> None:
        """Say nothing: what changes is told by events."""


class _LiveTable:
    """A row for each job."""

    def __init__(self, names: dict[int, str]) -> None:
        self._names = names
        self._started_at = time.monotonic()
        self._jobs: dict[int, Json] = {}
        self._events: dict[int, str] = {}

    def happened(self, job_id: int, event: str) -> None:
        self._events[job_id] = f"{time.monotonic() - self._started_at:5.1f} s  {event}"

    def found(self, jobs: Sequence[Json]) -> None:
        self._jobs = {job["id"]: job for job in jobs}

    def render(self) -> Table:
        """Return the table as it is now."""
        table = Table(box=SIMPLE_HEAD, expand=True)
        table.add_column("job", no_wrap=True)
        table.add_column("status", no_wrap=True, min_width=len("discarded"))
        table.add_column("attempt", justify="right", no_wrap=True)
        table.add_column(f"last event, of {time.monotonic() - self._started_at:.0f} s", no_wrap=True, ratio=1)
        for job_id, name in self._names.items():
            job = self._jobs.get(job_id)
            status = "" if job is None else job["status"]
            attempts = "" if job is None else f"{job['attempt']} of {job['max_attempts']}"
            styled = Text(status, style=_STYLES.get(status, ""))
            table.add_row(name, styled, attempts, self._events.get(job_id, ""))
        return table
