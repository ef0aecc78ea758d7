"""`rexecutor work`: a worker for the executors of a module."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.live import Live
from rich.text import Text

from ..worker import Worker, WorkerStatus
from .exits import Leaving, UsageError
from .loading import executors_of
from .service import HERE, Service, be_quiet
from .text import print_json, printable_lines

_FLAG = {"negative": (), "show_default": False}
_LIVE_SECONDS = 0.25
_LOG_SECONDS = 60.0
_JSON_SECONDS = 1.0

_log = logging.getLogger("rexecutor")


def work(
    executors: Annotated[str, Parameter(help="MODULE, or MODULE:NAME of an executor, or of a list of them.")],
    /,
    *,
    concurrency: Annotated[int, Parameter(help="How many jobs run at once, at most.")] = 20,
    name: Annotated[str | None, Parameter(help="For people; machine and process if not given.")] = None,
    drain_seconds: Annotated[float, Parameter(help="How long a stop waits for jobs that run.")] = 25.0,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], help="Log warnings only.", **_FLAG)] = False,
    service: Service = HERE,
) -> None:
    """Run the jobs of a module's executors, until told to stop.

    At SIGTERM or Ctrl-C it takes no more jobs, lets those that run end, and ends with 0. The second one ends at
    once; its jobs then go to others. It logs to stderr, on a terminal above a line that tells how it does. With
    --json stdout has that, one document a second while something changes.
    """
    be_quiet()
    url = service.address
    console = Console(stderr=True, highlight=False)
    _log_to(console, level=logging.WARNING if quiet else logging.INFO)
    found = executors_of(executors)
    try:
        worker = Worker(
            found,
            url=url,
            api_key=service.api_key,
            concurrency=concurrency,
            name=name,
            drain_seconds=drain_seconds,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(_run(worker, console, as_json=service.json))
    finally:
        # Not asyncio.run, which waits for ever for functions that do not let themselves be cancelled.
        Leaving.at_once = bool(asyncio.all_tasks(loop))
        if not Leaving.at_once:
            loop.close()


def _log_to(console: Console, *, level: int) -> None:
    handler = _Lines(console)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    for chatty in ("httpx2", "httpcore2", "websockets", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


class _Lines(logging.Handler):
    """Writes what is logged above the line that tells how the worker does."""

    def __init__(self, console: Console) -> None:
        """Write to this console."""
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; what it holds of other people's texts must not steer the terminal."""
        self._console.print(Text(printable_lines(self.format(record))), soft_wrap=True)


async def _run(worker: Worker, console: Console, *, as_json: bool) -> None:
    _log.info("%s works for %s", worker.name, ", ".join(line.executor for line in worker.status.executors))
    telling = asyncio.create_task(_tell(worker, console, as_json=as_json))
    try:
        await worker.run(handle_signals=True)
    finally:
        telling.cancel()
        with suppress(asyncio.CancelledError):
            await telling
    if as_json:
        print_json(_document(worker.status))
    _log.info("stopped: %d done, %d failed", worker.status.done, worker.status.failed)


async def _tell(worker: Worker, console: Console, *, as_json: bool) -> None:
    """Tell how the worker does, for as long as it works."""
    if as_json:
        await _tell_changes(worker, lambda status: print_json(_document(status)), seconds=_JSON_SECONDS)
    elif console.is_terminal:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            await _tell_changes(
                worker, lambda status: live.update(Text(_line(status)), refresh=True), seconds=_LIVE_SECONDS
            )
    else:
        await _tell_changes(worker, lambda status: _log.info("%s", _line(status)), seconds=_LOG_SECONDS)


async def _tell_changes(worker: Worker, tell: Callable[[WorkerStatus], None], *, seconds: float) -> None:
    told: WorkerStatus | None = None
    while True:
        await asyncio.sleep(seconds)
        if worker.status != told:
            told = worker.status
            tell(told)


def _line(status: WorkerStatus) -> str:
    away = [line.executor for line in status.executors if not line.connected]
    told = f"{status.running} running, {status.done:,} done, {status.failed:,} failed"
    if away:
        told += f"; not connected for {', '.join(away)}"
    return f"stopping: {told}" if status.stopping else told


def _document(status: WorkerStatus) -> dict[str, Any]:
    return {
        "name": status.name,
        "stopping": status.stopping,
        "healthy": status.is_healthy,
        "running": status.running,
        "done": status.done,
        "failed": status.failed,
        "executors": status.executors,
    }
