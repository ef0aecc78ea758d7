"""Enqueue, run and watch durable background jobs: the client of rexecutor-server.

Names are imported when they are first used, so that ``import rexecutor_client`` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .async_client import AsyncClient as AsyncClient
    from .backoff import Constant as Constant
    from .backoff import Exponential as Exponential
    from .backoff import Linear as Linear
    from .backoff import Polynomial as Polynomial
    from .bulk import Bulk as Bulk
    from .errors import InvalidUrl as InvalidUrl
    from .errors import Problem as Problem
    from .errors import RexecutorError as RexecutorError
    from .errors import ServiceUnreachable as ServiceUnreachable
    from .execution import Executor as Executor
    from .execution import executor as executor
    from .job import Ack as Ack
    from .job import EnqueuableJob as EnqueuableJob
    from .job import Enqueued as Enqueued
    from .job import EnqueueOutcome as EnqueueOutcome
    from .job import ExecutionError as ExecutionError
    from .job import ExecutorSummary as ExecutorSummary
    from .job import Job as Job
    from .job import JobChanges as JobChanges
    from .job import JobError as JobError
    from .job import JobStatus as JobStatus
    from .job import Page as Page
    from .json_text import NotJson as NotJson
    from .pruning import Except as Except
    from .pruning import MaxAge as MaxAge
    from .pruning import MaxLength as MaxLength
    from .pruning import Only as Only
    from .pruning import PruneSpec as PruneSpec
    from .results import Cancel as Cancel
    from .results import Discard as Discard
    from .results import Done as Done
    from .results import Retry as Retry
    from .results import Snooze as Snooze
    from .subscription import Subscription as Subscription
    from .sync_bulk import SyncBulk as SyncBulk
    from .sync_client import Client as Client
    from .uniqueness import Replace as Replace
    from .uniqueness import UniquenessCriteria as UniquenessCriteria
    from .version import __version__ as __version__
    from .where import Where as Where
    from .worker import Worker as Worker
    from .worker import WorkerStatus as WorkerStatus

_MODULES = {
    "async_client": ("AsyncClient",),
    "bulk": ("Bulk",),
    "worker": ("Worker", "WorkerStatus"),
    "results": ("Cancel", "Discard", "Done", "Retry", "Snooze"),
    "execution": ("Executor", "executor"),
    "backoff": ("Constant", "Exponential", "Linear", "Polynomial"),
    "errors": ("InvalidUrl", "Problem", "RexecutorError", "ServiceUnreachable"),
    "job": (
        "Ack",
        "EnqueuableJob",
        "Enqueued",
        "EnqueueOutcome",
        "ExecutionError",
        "ExecutorSummary",
        "Job",
        "JobChanges",
        "JobError",
        "JobStatus",
        "Page",
    ),
    "json_text": ("NotJson",),
    "pruning": ("Except", "MaxAge", "MaxLength", "Only", "PruneSpec"),
    "subscription": ("Subscription",),
    "sync_bulk": ("SyncBulk",),
    "sync_client": ("Client",),
    "uniqueness": ("Replace", "UniquenessCriteria"),
    "version": ("__version__",),
    "where": ("Where",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}
__all__ = sorted(_HOMES)  # noqa: PLE0605 - one table says what there is


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
