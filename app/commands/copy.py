"""`rexecutor copy`: from one database to another, with a bar that shows how far it is."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..store import copying
from ..store.database import describe_url
from .serve import failing_in_one_line, read_settings


def copy(source: str, target: str) -> int:
    """Copy all rows; return the exit status."""

    def run() -> None:
        settings = read_settings()
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("rows", total=None)
            rows = copying.copy_database(
                source,
                target,
                lease_seconds=settings.lease_seconds,
                progress=copying.Progress(
                    begun=lambda total: bar.update(task, total=total),
                    advanced=lambda count: bar.advance(task, count),
                ),
                behind_pooler=settings.is_behind_pooler,
            )
        print(
            f"copied {rows['jobs']} jobs, {rows['job_errors']} errors, {rows['leases']} sessions and "
            f"{rows['idempotency_keys']} kept answers from {describe_url(source)} to {describe_url(target)}; "
            "the counts of each executor and status agree"
        )

    return failing_in_one_line(run)
