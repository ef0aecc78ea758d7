"""States of jobs in a write: from rows, through the contract's table, to what the change means for others."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from ..domain.errors import BackendError, JobNotFound
from ..domain.instant import Instant
from ..domain.job import Ack
from ..domain.lifecycle import Acknowledgement, JobState, rerun
from ..domain.lifecycle import acknowledge as apply
from ..domain.status import JobStatus
from ..observability.metrics import ACKNOWLEDGED, AckOutcome
from .calls import Rerun
from .dialects.base import StoreRules
from .effects import Effects

Call = TypeVar("Call", Acknowledgement, Rerun)

STATUS = {status.value: status for status in JobStatus}
STATE_COLUMNS = """
id, executor, status, priority, scheduled_at, attempt, max_attempts, fence, version, lease_id, refunded,
finished_at, acknowledged_fence, acknowledged_operation, error_count
"""


class Transaction(Protocol):
    """What a dialect's write transaction has for these functions."""

    effects: Effects

    @property
    def now(self) -> Instant:
        """When it began, by the database's clock."""

    @property
    def rules(self) -> StoreRules:
        """What the service was set to."""

    def count_move(self, executor: str, before: JobStatus, after: JobStatus) -> None:
        """Note that a job went from one status to another."""


def state_of(row: Any) -> JobState:
    """Make a state of a row of ``STATE_COLUMNS``."""
    return JobState(
        id=row[0],
        executor=row[1],
        status=STATUS[row[2]],
        priority=row[3],
        scheduled_at=row[4],
        attempt=row[5],
        max_attempts=row[6],
        fence=row[7],
        version=row[8],
        lease_id=row[9],
        refunded=bool(row[10]),
        finished_at=row[11],
        acknowledged_fence=row[12],
        acknowledged_operation=row[13],
        error_count=row[14],
    )


def acknowledge_states(
    transaction: Transaction, states: Mapping[int, JobState], calls: Sequence[Acknowledgement]
) -> tuple[list[Ack | BackendError], list[JobState]]:
    """Let the contract's table decide of each call, in order; return the outcomes, and the states to write."""
    require_fence = transaction.rules.require_fence
    outcomes, changed = _decide(
        transaction, states, calls, lambda state, call: apply(state, call, transaction.now, require_fence=require_fence)
    )
    for call, outcome in zip(calls, outcomes, strict=True):
        transaction.effects.tally.count(ACKNOWLEDGED, call.operation, _kind_of(outcome))
    return outcomes, changed


def rerun_states(
    transaction: Transaction, states: Mapping[int, JobState], calls: Sequence[Rerun]
) -> tuple[list[Ack | BackendError], list[JobState]]:
    """Make jobs due now where that is allowed, in order; return the outcomes, and the states to write."""
    return _decide(transaction, states, calls, lambda state, call: rerun(state, transaction.now, force=call.force))


def _decide(
    transaction: Transaction,
    states: Mapping[int, JobState],
    calls: Sequence[Call],
    change: Callable[[JobState, Call], Ack],
) -> tuple[list[Ack | BackendError], list[JobState]]:
    changed: dict[int, JobState] = {}
    outcomes: list[Ack | BackendError] = []
    for call in calls:
        state = states.get(call.job_id)
        if state is None:
            outcomes.append(JobNotFound(call.job_id))
            continue
        before = state.status
        try:
            ack = change(state, call)
        except BackendError as refusal:
            outcomes.append(refusal)
            continue
        outcomes.append(ack)
        if not ack.duplicate:
            changed[state.id] = state
            collect_effects(transaction, state, before)
    return outcomes, list(changed.values())


def collect_effects(transaction: Transaction, state: JobState, before: JobStatus) -> None:
    """Note what a changed state means for the counts, for its worker and for who waits for work."""
    transaction.count_move(state.executor, before, state.status)
    if state.settlement is not None:
        transaction.effects.settled.append(state.settlement)
        state.settlement = None
    if state.is_ready:
        transaction.effects.add_ready(state.executor, state.scheduled_at)


def _kind_of(outcome: Ack | BackendError) -> AckOutcome:
    if isinstance(outcome, BackendError):
        return AckOutcome.REFUSED
    return AckOutcome.DUPLICATE if outcome.duplicate else AckOutcome.OK
