"""What sessions hold by the database, beside what their server knows: where a commit's reply was lost, they differ."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from ..domain.lifecycle import Acknowledgement, JobState, Operation, RevokeReason, Settlement
from ..domain.lifecycle import acknowledge as apply
from ..domain.status import JobStatus
from .calls import Audit, Held
from .effects import LeaseSplit
from .states import Transaction, collect_effects


class Stored(Struct):
    """A session as the database has it."""

    leases: list[int] = []
    held: set[Held] = set()


def of_this_server(audits: Sequence[Audit], stored: Mapping[str, Stored]) -> list[Audit]:
    """Return those whose session did not go on elsewhere: what it holds there is none of this server's business."""
    return [audit for audit in audits if audit.lease is None or audit.lease in _stored(audit, stored).leases]


def in_question(audits: Sequence[Audit], stored: Mapping[str, Stored]) -> set[int]:
    """Return the ids of the jobs that one side has and the other lacks."""
    return {job_id for audit in audits for job_id, _ in _stored(audit, stored).held ^ set(audit.held)}


def settle(
    transaction: Transaction, audits: Sequence[Audit], stored: Mapping[str, Stored], states: Mapping[int, JobState]
) -> list[JobState]:
    """Release jobs that no worker was sent, and note as settled what is held no more; return the states to write."""
    changed: list[JobState] = []
    for audit in audits:
        there, here = _stored(audit, stored), set(audit.held)
        for job_id, fence in sorted(there.held - here):
            state = states.get(job_id)
            if state is not None and _executes(state, fence):
                call = Acknowledgement(operation=Operation.RELEASE, job_id=job_id, fence=fence)
                apply(state, call, transaction.now, require_fence=False)
                collect_effects(transaction, state, JobStatus.EXECUTING)
                changed.append(state)
        if audit.lease is None:
            continue
        transaction.effects.moves += [LeaseSplit(audit.lease, lease) for lease in there.leases if lease != audit.lease]
        for job_id, fence in sorted(here - there.held):
            state = states.get(job_id)
            if state is None or not _executes(state, fence):
                transaction.effects.settled.append(Settlement(audit.lease, job_id, fence, _reason(state, fence)))
    return changed


def _stored(audit: Audit, stored: Mapping[str, Stored]) -> Stored:
    return stored.get(audit.session) or Stored()


def _executes(state: JobState, fence: int) -> bool:
    return state.status is JobStatus.EXECUTING and state.fence == fence


def _reason(state: JobState | None, fence: int) -> RevokeReason | None:
    """Return why the job is its worker's no more, as near as can be told now; None if the worker said so itself."""
    if state is None or state.acknowledged_fence == fence:
        return None
    match state.status:
        case JobStatus.CANCELLED:
            return RevokeReason.CANCELLED
        case JobStatus.COMPLETE | JobStatus.DISCARDED:
            return RevokeReason.ACKNOWLEDGED
        case _:
            return RevokeReason.LOST
