"""What a worker tells the service of a job, over the stream or by request, until the service has an answer to it."""

from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from .async_client import AsyncClient
from .errors import RexecutorError
from .job import Ack, ExecutionError, Job
from .recorded import error_of, reason_of
from .results import Cancel, Discard, Done, Result, Retry, RunAt, Snooze
from .subscription import Subscription

_NOW = timedelta(0)
_LATER = timedelta(hours=1)
_MOST_DELAY = timedelta(days=36_500)
_NONE = ExecutionError("", "")
_NO_WORDS = "(did not get through to the service; the worker's log has it)"


class Settlement(Struct, frozen=True):
    """An acknowledgement: its kind is the contract's word."""

    kind: str
    job_id: int
    fence: int
    run_at: RunAt = _NOW
    error: ExecutionError = _NONE

    @property
    def has_words(self) -> bool:
        """Whether it brings a text of the function's."""
        return bool(self.error.message)


def settlement_of(job: Job, result: Result) -> Settlement:
    """Return what a result says of a job; of one that says nothing sensible, that it failed."""
    try:
        return _meant_by(job, result)
    except Exception as error:  # noqa: BLE001 - such as a time that is none
        return Settlement("retry", job.id, job.fence, _LATER, error_of(error))


def _meant_by(job: Job, result: Result) -> Settlement:
    match result:
        case Done():
            return Settlement("complete", job.id, job.fence)
        case Retry():
            return Settlement("retry", job.id, job.fence, _time(result.after or _NOW), reason_of(result))
        case Snooze():
            return Settlement("snooze", job.id, job.fence, _time(result.until))
        case Cancel():
            return Settlement("cancel", job.id, job.fence, error=reason_of(result))
        case Discard():
            return Settlement("discard", job.id, job.fence, error=reason_of(result))
        case other:
            assert_never(other)


def release_of(job_id: int, fence: int) -> Settlement:
    """Return what gives a job back that was not started."""
    return Settlement("release", job_id, fence)


def over_stream(subscription: Subscription, settlement: Settlement) -> Awaitable[Ack]:
    """Send a settlement; its result comes with what is returned."""
    job_id, fence, error = settlement.job_id, settlement.fence, settlement.error
    match settlement.kind:
        case "complete":
            return subscription.complete(job_id, fence)
        case "retry":
            return subscription.retry(job_id, fence, settlement.run_at, error)
        case "snooze":
            return subscription.snooze(job_id, fence, settlement.run_at)
        case "cancel":
            return subscription.cancel(job_id, fence, error)
        case "discard":
            return subscription.discard(job_id, fence, error)
        case _:
            return subscription.release(job_id, fence)


def by_request(client: AsyncClient, settlement: Settlement) -> Awaitable[Ack]:
    """The same over HTTP."""
    job_id, fence, error = settlement.job_id, settlement.fence, settlement.error
    match settlement.kind:
        case "complete":
            return client.mark_job_complete(job_id, fence=fence)
        case "retry":
            return client.mark_job_retryable(job_id, settlement.run_at, error, fence=fence)
        case "snooze":
            return client.mark_job_snoozed(job_id, settlement.run_at, fence=fence)
        case "cancel":
            return client.mark_job_cancelled(job_id, error, fence=fence)
        case "discard":
            return client.mark_job_discarded(job_id, error, fence=fence)
        case _:
            return client.release_job(job_id, fence=fence)


def repaired(settlement: Settlement, refusal: RexecutorError) -> Settlement | None:
    """Return what to say instead of something that the service cannot take, so that the job is not held for ever.

    That is a retry in an hour with the refusal as its error; None if that was refused as well.
    """
    if settlement.error.error_type == "refused":
        return None
    error = ExecutionError("refused", f"{settlement.kind} was refused: {refusal}")
    if settlement.kind in ("discard", "cancel"):
        return Settlement("discard", settlement.job_id, settlement.fence, error=error)
    return Settlement("retry", settlement.job_id, settlement.fence, _LATER, error)


def without_words(settlement: Settlement) -> Settlement:
    """Return what says the same but for the text."""
    return replace(settlement, error=ExecutionError(settlement.error.error_type, _NO_WORDS))


def _time(run_at: RunAt) -> RunAt:
    """Return when to run: never before now, and no further than the service can say; a naive time is a local one."""
    if isinstance(run_at, datetime):
        return run_at if run_at.tzinfo is not None else run_at.astimezone(UTC)
    if not isinstance(run_at, timedelta):
        raise TypeError(f"neither a datetime nor a timedelta: {run_at!r}")
    return min(max(timedelta(seconds=run_at.total_seconds()), _NOW), _MOST_DELAY)
