"""`python -m benchmarks`: measure, print one table, write the results as JSON."""

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from tests.cluster import own_cluster

from .figures.figure import Figure
from .figures.summary import summarise
from .rig.bench import FULL, QUICK, Bench
from .rig.machine import OthersMeter, allow_open_files, describe_run
from .rig.postgres import PostgresStores
from .rig.stores import SqliteStores, Stores
from .rounds import POSTGRES, SQLITE, Series, chosen, measure
from .table import as_markdown, as_text, rows_of

RESULTS = Path(__file__).with_name("results.json")
POSTGRES_RESULTS = Path(__file__).with_name("results-postgres.json")
_CLUSTER_OPTIONS = {"shared_preload_libraries": "pg_stat_statements"}
"""Otherwise as PostgreSQL comes."""
_ROUNDS = 5
_BACKLOG = 1_000_000
_QUICK_BACKLOG = 50_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 1 if a mark was missed."""
    given = _parse(arguments)
    all_figures = SQLITE if given.postgres is None else POSTGRES
    if given.table:
        print(_markdown(given.output or _results(given), all_figures))
        return 0
    figures = chosen(all_figures, given.only)
    if not figures:
        print(f"no such figure; there are {', '.join(figure.key for figure in all_figures)}", file=sys.stderr)
        return 2
    try:
        return _measure_and_tell(given, figures)
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("ended by a signal", file=sys.stderr)
        return 130


def _measure_and_tell(given: argparse.Namespace, figures: Sequence[Figure]) -> int:
    allow_open_files()
    began_at, others = time.monotonic(), OthersMeter()
    with (
        tempfile.TemporaryDirectory(prefix="rexecutor-bench-", dir=given.directory) as folder,
        _stores(given, Path(folder)) as stores,
    ):
        facts = describe_run(Path(folder), stores.version())
        bench = Bench(Path(folder), stores, QUICK if given.quick else FULL)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            series = runner.run(_until_terminated(measure(bench, figures, rounds=given.rounds)))
    facts |= {
        "rounds": given.rounds,
        "jobs_stored": 2 * given.backlog,
        "seconds": round(time.monotonic() - began_at),
        "cores_used_by_others": others.cores(),
    }
    rows = rows_of(figures, series)
    print(as_text(rows))
    if given.output is not None:
        given.output.write_bytes(_document(facts, series))
    missed = [row.figure for row in rows if row.ok is False]
    print(
        f"\n{len(missed)} of {sum(row.ok is not None for row in rows)} marks missed, in {facts['seconds']} s;"
        f" other processes kept {facts['cores_used_by_others']} of {facts['machine']['cores']} cores busy"
        + ("; quick: less of everything than the names say" if given.quick else "")
    )
    return 1 if missed else 0


@contextmanager
def _stores(given: argparse.Namespace, folder: Path) -> Iterator[Stores]:
    if given.postgres is None:
        yield SqliteStores(folder, backlog=given.backlog)
    elif given.postgres:
        yield PostgresStores(given.postgres, process_id=None, backlog=given.backlog)
    else:
        with own_cluster(_CLUSTER_OPTIONS, given.directory) as cluster:
            yield PostgresStores(cluster.url, process_id=cluster.pid, backlog=given.backlog)


async def _until_terminated(measuring: Coroutine[Any, Any, Series]) -> Series:
    """Measure; SIGTERM ends it as Ctrl-C does, so that no server outlives the command."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await measuring


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", type=lambda text: text.split(","), default=[], help="beginnings of figures' names")
    parser.add_argument(
        "--postgres",
        nargs="?",
        const="",
        metavar="URL",
        help="measure on PostgreSQL: on this server, or on one that is started for it",
    )
    parser.add_argument("--rounds", type=int, help=f"how often each is measured ({_ROUNDS}; quick 1)")
    parser.add_argument("--quick", action="store_true", help="little of everything, to try the benchmarks themselves")
    parser.add_argument("--backlog", type=int, help=f"future and as many finished jobs stored ({_BACKLOG:,}; 0: none)")
    parser.add_argument("--directory", type=Path, help="where the databases lie (the system's folder for such files)")
    parser.add_argument("--output", type=Path, help="where the JSON goes (of a whole run: beside the benchmarks)")
    parser.add_argument(
        "--table", action="store_true", help="print the table of the JSON as Markdown, and measure nothing"
    )
    given = parser.parse_args(arguments)
    is_whole = not (given.only or given.quick or given.rounds or given.backlog is not None)
    if given.output is None and is_whole and not given.table:
        given.output = _results(given)
    given.rounds = given.rounds or (1 if given.quick else _ROUNDS)
    if given.backlog is None:
        given.backlog = _QUICK_BACKLOG if given.quick else _BACKLOG
    return given


def _results(given: argparse.Namespace) -> Path:
    return RESULTS if given.postgres is None else POSTGRES_RESULTS


def _document(facts: dict[str, Any], series: Series) -> bytes:
    measured = {
        name: {"median": summary.median, "least": summary.least, "most": summary.most, "rounds": numbers}
        for name, numbers in series.items()
        for summary in [summarise(numbers)]
    }
    return msgspec.json.format(msgspec.json.encode({**facts, "series": _rounded(measured)}), indent=2) + b"\n"


def _rounded(value: Any) -> Any:
    """Return the numbers with as many digits as they are worth."""
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return float(f"{value:.5g}")


def _markdown(path: Path, figures: Sequence[Figure]) -> str:
    document = msgspec.json.decode(path.read_bytes())
    series = {name: entry["rounds"] for name, entry in document["series"].items()}
    return f"{as_markdown(rows_of(figures, series))}\n\n{_facts(document)}"


def _facts(document: dict[str, Any]) -> str:
    """Return in one sentence what was measured, and on what."""
    machine, versions = document["machine"], document["versions"]
    return (
        f"Commit {document['commit']}, {document['date'][:10]}: {document['rounds']} rounds in {document['seconds']} s"
        f" on {machine['cores']} cores ({machine['processor']}, {machine['system']}, {machine['file_system']}),"
        f" of which other processes kept {document['cores_used_by_others']} busy;"
        f" Python {versions['python']}, {_database(versions)}, uvicorn {versions['uvicorn']},"
        f" FastAPI {versions['fastapi']}. Jobs stored: {document['jobs_stored']:,}, half of them finished."
    )


def _database(versions: dict[str, str]) -> str:
    postgres = versions.get("postgresql")
    return f"SQLite {versions['sqlite']}" if postgres is None else f"PostgreSQL {postgres}"


if __name__ == "__main__":
    sys.exit(main())
