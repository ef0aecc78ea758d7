"""The command `rexecutor`: what speaks to a service, and what the server, where it is installed, adds to it.

A command is imported when it runs: so each starts at once, and none of the client's needs the server.
"""

import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from cyclopts import App, CycloptsError, Group

from .commands.exits import Exit, Leaving, NotDone, UsageError
from .commands.text import printable, tell
from .errors import InvalidRequest, InvalidUrl, Problem, RexecutorError, ServiceUnreachable
from .json_text import NotJson
from .version import __version__

SERVER_COMMANDS = "rexecutor.commands"
"""The group of entry points by which an installed server adds its commands."""

_HERE = "rexecutor_client.commands"
COMMANDS = {
    "work": (f"{_HERE}.work:work", "Run the jobs of a module's executors, until told to stop."),
    "enqueue": (f"{_HERE}.enqueue:enqueue", "Enqueue a job, or many from lines of JSON."),
    "executors": (f"{_HERE}.executors:executors", "List the executors, with their jobs by status."),
    "status": (f"{_HERE}.status:status", "Show the service and its executors, live on a terminal."),
    "bench": (f"{_HERE}.bench:bench", "Measure how fast this service is, from here."),
    "completion": (f"{_HERE}.completion:completion", "Print what lets a shell complete this command."),
}
JOBS = {
    "list": (f"{_HERE}.listing:list_", "List jobs, latest first."),
    "show": (f"{_HERE}.listing:show_", "Show all of a job, its errors too."),
    "watch": (f"{_HERE}.watching:watch_", "Follow jobs until they have ended."),
    "cancel": (f"{_HERE}.changes:cancel_", "Cancel jobs."),
    "rerun": (f"{_HERE}.changes:rerun_", "Make jobs due now, with one attempt more."),
    "snooze": (f"{_HERE}.changes:snooze_", "Let jobs run later."),
    "update": (f"{_HERE}.changes:update_", "Change members of a job."),
    "prune": (f"{_HERE}.pruning:prune_", "Delete jobs for good."),
}
_HELP_FLAGS = ("--help", "-h")


def main() -> None:
    """Run the command that the program's arguments name."""
    code = run(sys.argv[1:])
    if Leaving.at_once:
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run the command that the arguments name; return its exit code. Whatever goes wrong is told on stderr, here."""
    try:
        code = _code_of(new_app(arguments)([*arguments], print_error=False))
        # What a closed pipe does not take must show here, where it is expected.
        sys.stdout.flush()
    except BrokenPipeError:
        _leave_stdout()
        return Exit.DONE
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - nobody is to be shown a traceback
        message, failure = _told(error)
        tell(f"rexecutor: {message}")
        return failure
    return code


def new_app(arguments: Sequence[str] = ()) -> App:
    """Return the command with all its commands; imported are only those that the help for these arguments needs."""
    app = App(
        name="rexecutor",
        help="Durable background and scheduled jobs: enqueue, work, watch.",
        version=__version__,
        result_action="return_value",
        exit_on_error=False,
    )
    _add(app, COMMANDS, describe=_asks_for_help(arguments))
    jobs = App(name="jobs", help="Look at jobs, and change them.", sort_key=2)
    _add(jobs, JOBS, describe=arguments[:1] == ["jobs"] and _asks_for_help(arguments[1:]))
    app.command(jobs)
    app.register_install_completion_command(help="Let a shell complete this command: bash, zsh or fish.")
    _add_server(app, entry_points(group=SERVER_COMMANDS), describe=_asks_for_help(arguments))
    return app


def _asks_for_help(arguments: Sequence[str]) -> bool:
    return not arguments or arguments[0] in _HELP_FLAGS


def _add(app: App, commands: dict[str, tuple[str, str]], *, describe: bool) -> None:
    """Add commands; where all are listed with a line on each, which would else stand in for the command's own help."""
    for order, (name, (target, text)) in enumerate(commands.items(), 1):
        app.command(target, name=name, help=text if describe else None, sort_key=order)


def _add_server(app: App, added: Iterable[EntryPoint], *, describe: bool) -> None:
    """Add what an installed server brings; it is imported only to ``describe`` it, as its own docstrings do."""
    group = Group("Server", sort_key=1)
    for entry in sorted(added, key=lambda each: each.name):
        if entry.name in app:
            continue
        text = _description(entry) if describe else None
        app.command(entry.value, name=entry.name, group=group, help=text)


def _description(entry: EntryPoint) -> str:
    try:
        return (entry.load().__doc__ or "").partition("\n")[0]
    except Exception as error:  # noqa: BLE001 - a broken server must not keep the client's help from its reader
        return f"(cannot be loaded: {error})"


def _code_of(result: Any) -> int:
    return result if isinstance(result, int) else Exit.DONE


def _leave_stdout() -> None:
    """Whoever read it has seen enough; Python would complain of that once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _told(error: Exception) -> tuple[str, Exit]:
    """Return what is said of an error, and the exit code."""
    match error:
        case CycloptsError():
            return f"{_one_line(str(error))}\nTry `rexecutor {_named(error)}--help`.", Exit.USAGE
        case UsageError() | NotJson() | InvalidUrl():
            return str(error), Exit.USAGE
        case Problem():
            return "\n".join(_lines_of(error)), Exit.REFUSED
        case ServiceUnreachable():
            return f"{error}\nIs it running, and is this its address (--url, REXECUTOR_URL)?", Exit.UNREACHABLE
        case NotDone() | RexecutorError():
            return str(error), Exit.REFUSED
        case _:
            return _unexpected(error), Exit.REFUSED


def _lines_of(problem: Problem) -> list[str]:
    """Return what there is to say of a problem: of a request that is wrong, where."""
    errors = problem.errors if isinstance(problem, InvalidRequest) else []
    if errors:
        return [
            problem.title,
            *(
                f"  {printable(each.get('pointer') or '(all)')}: {printable(each.get('message', ''))}"
                for each in errors
            ),
        ]
    return [printable(f"{problem.title}: {problem.detail}" if problem.detail else str(problem))]


def _unexpected(error: Exception) -> str:
    """Return what is needed to report a mistake of this program's, or to find one in a module that it was to load."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"unexpected {type(error).__name__}: {error}{where}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _named(error: CycloptsError) -> str:
    return "".join(f"{name} " for name in error.command_chain or ())
