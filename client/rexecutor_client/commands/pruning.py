"""`rexecutor jobs prune`."""

import sys
from typing import Annotated

from cyclopts import Parameter
from msgspec import UNSET

from ..job import JobStatus
from ..pruning import Except, MaxAge, MaxLength, Only, PruneSpec
from .exits import NotDone, UsageError
from .service import HERE, Service
from .text import print_json
from .values import duration

_FLAG = {"negative": (), "show_default": False}


def prune_(
    status: Annotated[JobStatus, Parameter(help="Which jobs: of this status.")],
    /,
    *,
    max_age: Annotated[str | None, Parameter(help="Delete what was scheduled longer ago, as 30d.")] = None,
    max_length: Annotated[int | None, Parameter(help="Keep so many of all, the latest.")] = None,
    executor: Annotated[tuple[str, ...], Parameter(help="Of this executor only.", **_FLAG)] = (),
    except_executor: Annotated[tuple[str, ...], Parameter(help="Of all but this executor.", **_FLAG)] = (),
    dry_run: Annotated[bool, Parameter(help="Only tell how many.", **_FLAG)] = False,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"], help="Do not ask.", **_FLAG)] = False,
    service: Service = HERE,
) -> None:
    """Delete jobs for good.

    Of jobs that wait (scheduled, retryable) those furthest in the future go: --max-age is then how far ahead, and
    --max-length keeps the soonest. On a terminal it tells how many there are, and asks.
    """
    if executor and except_executor:
        raise UsageError("either --executor or --except-executor")
    which = Only(executor) if executor else Except(except_executor) if except_executor else UNSET
    spec = PruneSpec(status, _prune_by(max_age, max_length), which)
    if not dry_run and not yes and not sys.stdin.isatty():
        raise UsageError("nobody to ask: --yes deletes without asking, --dry-run only tells how many")
    with service.client() as client:
        if not dry_run and not yes:
            _ask(client.prune_jobs(spec, dry_run=True), status)
        deleted = client.prune_jobs(spec, dry_run=dry_run)
    if service.json:
        print_json({"deleted": deleted, "dry_run": dry_run})
    else:
        print(f"{deleted} {'would be deleted' if dry_run else 'deleted'}")


def _prune_by(max_age: str | None, max_length: int | None) -> MaxAge | MaxLength:
    if max_age is not None and max_length is None:
        return MaxAge(duration(max_age))
    if max_length is not None and max_age is None:
        return MaxLength(max_length)
    raise UsageError("either --max-age or --max-length")


def _ask(count: int, status: JobStatus) -> None:
    """Have a person confirm it. Raises NotDone."""
    if not count:
        return
    jobs = "job" if count == 1 else "jobs"
    print(f"Delete {count} {status} {jobs} for good? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise NotDone("nothing was deleted")
