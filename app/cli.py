"""What the server adds to the command `rexecutor`, one entry point each, and all of it as `python -m app`.

What a command needs is imported when it runs.
"""

import signal
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from .version import __version__

app = App(name="rexecutor", help="The service: durable jobs over HTTP and WebSocket.", version=__version__)


@app.command
def serve(
    *,
    migrate: Annotated[bool | None, Parameter(help="Bring the schema to head first (REXECUTOR_MIGRATE).")] = None,
    strict_settings: Annotated[
        bool, Parameter(help="Refuse to start with an unknown REXECUTOR_ variable.", negative=())
    ] = False,
) -> int:
    """Run the service; settings come from REXECUTOR_* in the environment."""
    # Until the service listens to signals itself: what is told to leave while it starts has nothing to drain.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    from .commands.serve import serve as run

    return run(migrate=migrate, strict_settings=strict_settings)


@app.command
def migrate(*, revision: Annotated[str, Parameter(help="The revision to go to.")] = "head") -> int:
    """Bring the database's schema to head."""
    from .commands.serve import migrate as run

    return run(revision)


@app.command
def copy(
    *,
    source: Annotated[str, Parameter(name="--from", help="Database to copy, which no server uses.")],
    target: Annotated[str, Parameter(name="--to", help="Database without jobs.")],
) -> int:
    """Move all jobs from one database to another, as from an SQLite file to PostgreSQL; all or nothing."""
    from .commands.copy import copy as run

    return run(source, target)


@app.command
def demo() -> int:
    """Watch real workers run a real mix of jobs, failures and a crash among them, in half a minute."""
    from .commands.demo.command import run

    return run()


@app.command
def openapi(
    *,
    check: Annotated[bool, Parameter(help="Compare with the files instead of writing them.")] = False,
    folder: Annotated[Path, Parameter(help="Where the files are.")] = Path("openapi"),
) -> int:
    """Write the OpenAPI and AsyncAPI documents to files, or check that the files are true."""
    from .commands.openapi import check_files, write_files

    return check_files(folder) if check else write_files(folder)


@app.command
def settings() -> int:
    """Show all settings with their defaults, ranges and meanings, as a Markdown table."""
    from .commands.settings import show

    return show()


@app.command
def metrics() -> int:
    """Show all metrics with their labels and meanings, as a Markdown table."""
    from .commands.metrics import show

    return show()


def main() -> None:
    """Run the command that the arguments name."""
    app()
