"""`rexecutor status`: the service and its executors, live."""

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.live import Live
from rich.text import Text

from ..errors import Problem, ServiceUnreachable
from ..job import ExecutorSummary
from ..sync_client import Client
from .executors import HEADINGS, NOBODY, row_of
from .service import HERE, Service
from .text import print_json, printable, table_lines

_SHORTEST_PAUSE_SECONDS = 0.1


def status(
    *,
    once: Annotated[bool, Parameter(help="Show it as it is now, and end.", negative=(), show_default=False)] = False,
    every: Annotated[float, Parameter(help="How many seconds to wait between two looks.")] = 1.0,
    service: Service = HERE,
) -> None:
    """Show the service and its executors, live on a terminal.

    There until Ctrl-C; elsewhere, and with --json, as they are now.
    """
    with service.client() as client:
        info, executors, is_ready = client.service_info(), client.list_executors(), client.is_ready()
        version = printable(str(info.get("version")))
        if service.json:
            print_json({"url": client.url, "ready": is_ready, **info, "executors": executors})
        elif once or not sys.stdout.isatty():
            print("\n".join(_lines(_heading(client, version, is_ready=is_ready), executors, width=None)))
        else:
            # Ctrl-C is how one leaves it.
            with suppress(KeyboardInterrupt):
                _watch(client, version, max(every, _SHORTEST_PAUSE_SECONDS))


def _watch(client: Client, version: str, every: float) -> None:
    console = Console(highlight=False)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(_screen(_look(client, version, console.width)), refresh=True)
            time.sleep(every)


def _look(client: Client, version: str, width: int) -> list[str]:
    try:
        heading = _heading(client, version, is_ready=client.is_ready())
        return _lines(heading, client.list_executors(), width=width)
    except (Problem, ServiceUnreachable) as error:
        return [f"{client.url}  NO ANSWER", printable(str(error))]


def _heading(client: Client, version: str, *, is_ready: bool) -> str:
    return f"{client.url}  version {version}  {'ready' if is_ready else 'NOT READY'}"


def _lines(heading: str, executors: Sequence[ExecutorSummary], *, width: int | None) -> list[str]:
    rows = [*map(row_of, executors)]
    return [heading, *(table_lines(HEADINGS, rows, width=width) if rows else [NOBODY])]


def _screen(lines: list[str]) -> Text:
    heading, *table = lines
    text = Text(heading, style="bold", no_wrap=True, overflow="ellipsis")
    return text.append("\n" + "\n".join(table), style="not bold")
