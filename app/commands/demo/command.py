"""`rexecutor demo`: the service, its workers and a real mix of jobs, watched and checked."""

import signal
import sys
import time
from http.client import HTTPException
from io import TextIOWrapper
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

from rich.console import Console

from .check import find_faults
from .client import Client, Refused
from .processes import NotStarted, Processes
from .progress import progress_on
from .scenario import LEASE_SECONDS, PLAN, WORKERS
from .story import Story, WrongOutcome
from .summary import show_lines, show_summary

_LONGEST_SECONDS = 20.0
_INTERRUPTED = 130


def run() -> int:
    """Run the demo; return 0 if every job ended as it should, else 1."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # the summary has signs that a terminal may lack
    console = Console(highlight=False, soft_wrap=True)
    try:
        with TemporaryDirectory(prefix="rexecutor-demo-") as folder, Processes(Path(folder)) as processes:
            return _play(console, processes)
    except KeyboardInterrupt:
        print("rexecutor demo: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except (NotStarted, Refused, WrongOutcome, HTTPException, OSError) as failure:
        print(f"rexecutor demo: {failure}", file=sys.stderr)
        return 1


def _play(console: Console, processes: Processes) -> int:
    started_at = time.monotonic()
    url = processes.start_service(lease_seconds=LEASE_SECONDS)
    service = Client(url)
    names: dict[int, str] = {}
    story = Story(service, processes, names)
    console.print(f"A service on {url}, a lease of {LEASE_SECONDS:g} s, {sum(WORKERS.values())} workers.\n")
    try:
        with progress_on(console, names) as progress:
            story.enqueue(PLAN, progress)
            story.play(WORKERS, url, progress, seconds=_LONGEST_SECONDS)
        found = story.found()
    finally:
        service.close()
    faults = find_faults(PLAN, found)
    show_summary(console, PLAN, found, faults, seconds=time.monotonic() - started_at)
    if faults:
        return 1
    show_lines(console)
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise KeyboardInterrupt
