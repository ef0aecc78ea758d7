"""The judge: a pure function from a history and its final dump to the promises that were broken."""

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from itertools import pairwise

from msgspec import Struct

from tests.history.credit import over_credit
from tests.history.existence import existence
from tests.history.facts import CHANGING, FENCED, Call, Facts
from tests.history.lines import FINAL, AnyLine, Called, Delivered, Outcome, Revoked

CLOCK_TOLERANCE = 2_000
"""By how many microseconds a lease may seem to end early.

Clients and service read one clock, and ``held_until`` is the least that a lease may have been. A second clock is in
one place only: how long ago a sign of life was, the service measures by the monotonic clock. While the other is
adjusted the two run apart, by at most 0.5 ms a second, and for no longer than a lease.
"""
_FINAL_OF = {"complete": "complete", "cancel": "cancelled", "discard": "discarded"}


class Rule(StrEnum):
    """What the service promises."""

    EXISTS_ONCE = "every acknowledged enqueue exists once, or was pruned"
    ENDS = "every job ends in a final state"
    FENCE_GROWS = "no (job, fence) is delivered twice, and fences grow with time"
    LEASES_APART = "no two leases of a job overlap"
    ONE_OUTCOME = "at most one outcome is accepted for a fence"
    NOTHING_EARLY = "nothing is handed out before its time"
    FINAL_IS_FINAL = "an acknowledged end is final"
    REFUSAL_CHANGES_NOTHING = "a 4xx changes nothing"
    WITHIN_CREDIT = "no more is delivered than credits were granted"
    REVOKE_AFTER_JOB = "no job is revoked that was not delivered"
    RESUME_KEEPS = "a session resumed within its lease has all its jobs, and no others"


class Violation(Struct, frozen=True):
    """A promise that was broken, and how."""

    rule: Rule
    what: str


def find_violations(lines: Iterable[AnyLine]) -> list[Violation]:
    """Return all promises that a history shows broken; unknown outcomes are given the benefit of the doubt."""
    facts = Facts(lines)
    return [Violation(rule, what) for rule, judge in _JUDGES.items() for what in judge(facts)]


def _unfinished(facts: Facts) -> Iterator[str]:
    for job in facts.stored:
        if job.status not in FINAL:
            yield f"job {job.job_id} is {job.status}"


def _fences_that_do_not_grow(facts: Facts) -> Iterator[str]:
    for job_id, deliveries in facts.deliveries.items():
        for before, after in pairwise(deliveries):
            if before.fence == after.fence:
                yield f"job {job_id}: fence {after.fence} was delivered twice"
            elif before.attempted_at > after.attempted_at or before.version >= after.version:
                yield f"job {job_id}: fence {after.fence} was handed out before fence {before.fence}"
    for job in facts.stored:
        delivered = facts.deliveries.get(job.job_id)
        if delivered and delivered[-1].fence > job.fence:
            yield f"job {job.job_id}: fence {delivered[-1].fence} was delivered, {job.fence} is stored"
    for lines in facts.connections.values():
        latest: dict[int, int] = {}
        for line in lines:
            if isinstance(line, Delivered):
                if line.fence < latest.get(line.job_id, 0):
                    yield f"job {line.job_id}: fence {line.fence} came after {latest[line.job_id]}"
                latest[line.job_id] = line.fence


def _leases_that_overlap(facts: Facts) -> Iterator[str]:
    for job_id, deliveries in facts.deliveries.items():
        for held, taken in pairwise(deliveries):
            if held.fence == taken.fence or held.attempted_at > taken.attempted_at:
                continue  # told as fences that do not grow
            if facts.may_have_ended_before(job_id, held.fence, taken.attempted_at):
                continue
            early = facts.held_until(held, taken.attempted_at) - taken.attempted_at
            if early > CLOCK_TOLERANCE:
                yield (
                    f"job {job_id}: handed out under fence {taken.fence} with {early / 1e6:.3f} s left"
                    f" of the lease under fence {held.fence} on {held.connection}"
                )


def _second_outcomes(facts: Facts) -> Iterator[str]:
    for job_id, calls in facts.calls_on.items():
        fenced = [call for call in calls if call.asked.operation in FENCED and call.asked.fence is not None]
        accepted: dict[int, Called] = {}
        for call in fenced:
            asked = call.asked
            assert asked.fence is not None
            if call.outcome is Outcome.ACCEPTED:
                if asked.fence in accepted:
                    first = accepted[asked.fence].operation
                    yield f"job {job_id}: {first} and {asked.operation} accepted under fence {asked.fence}"
                accepted[asked.fence] = asked
                if any(each.fence > asked.fence and each.attempted_at < asked.at for each in facts.deliveries[job_id]):
                    yield f"job {job_id}: {asked.operation} accepted under fence {asked.fence}, a later one was out"
            elif call.outcome is Outcome.DUPLICATE and not any(_is_first_of(each, call) for each in fenced):
                if asked.operation == "release" and not facts.was_delivered(job_id, asked.fence):
                    continue  # what never reached its worker the service releases by itself
                yield f"job {job_id}: {asked.operation} under fence {asked.fence} is a duplicate of nothing"


def _is_first_of(call: Call, duplicate: Call) -> bool:
    same = call.asked.operation == duplicate.asked.operation and call.asked.fence == duplicate.asked.fence
    return same and call.may_have_taken_effect and call.asked.at <= duplicate.may_have_ended_at


def _early(facts: Facts) -> Iterator[str]:
    for job_id, deliveries in facts.deliveries.items():
        for each in deliveries:
            if min(each.attempted_at, each.at) < each.scheduled_at:
                yield f"job {job_id}: fence {each.fence} came before scheduled_at"
        changes = [
            call.asked.at
            for call in facts.calls_on[job_id]
            if call.asked.operation in CHANGING and call.asked.fence is None and call.may_have_taken_effect
        ]
        for fence, not_before in _times_asked_for(facts, job_id):
            following = next((each for each in deliveries if each.fence > fence), None)
            if following is None or any(at <= following.at for at in changes):
                continue
            if following.attempted_at < not_before:
                yield f"job {job_id}: fence {following.fence} came before the time that was asked for"


def _times_asked_for(facts: Facts, job_id: int) -> Iterator[tuple[int, int]]:
    """Give after which fence the job had to wait until when."""
    enqueued = facts.enqueued.get(job_id)
    if enqueued is not None and enqueued.asked.not_before is not None:
        yield 0, enqueued.asked.not_before
    for call in facts.calls_on[job_id]:
        asked = call.asked
        if call.took_effect and asked.fence is not None and asked.not_before is not None:
            yield asked.fence, asked.not_before


def _ends_undone(facts: Facts) -> Iterator[str]:
    stored = {job.job_id: job.status for job in facts.stored}
    for job_id, calls in facts.calls_on.items():
        reruns = [call for call in calls if call.asked.operation == "rerun" and call.may_have_taken_effect]
        changes = [call for call in calls if call.asked.operation in FENCED and call.took_effect]
        for end in changes:
            if end.asked.operation not in _FINAL_OF:
                continue
            operation = end.asked.operation
            undoing = [rerun.asked.at for rerun in reruns if rerun.may_have_ended_at >= end.asked.at]
            undone_at = min(undoing, default=float("inf"))
            for other in changes:
                if end.may_have_ended_at <= other.asked.at and other.may_have_ended_at < undone_at:
                    yield f"job {job_id}: {other.asked.operation} accepted after {operation}"
            for delivery in facts.deliveries[job_id]:
                if _is_after(delivery, end) and delivery.attempted_at < undone_at:
                    yield f"job {job_id}: delivered under fence {delivery.fence} after {operation}"
            if not undoing and stored.get(job_id, _FINAL_OF[operation]) != _FINAL_OF[operation]:
                yield f"job {job_id}: {stored[job_id]} at the end, {operation} had been acknowledged"


def _is_after(delivery: Delivered, end: Call) -> bool:
    if end.asked.fence is not None:
        return delivery.fence > end.asked.fence
    return delivery.attempted_at > end.may_have_ended_at


def _changes_by_refusals(facts: Facts) -> Iterator[str]:
    markers = {job.marker for job in facts.stored}
    may_exist = {marker for call in facts.calls if call.may_have_taken_effect for marker in call.asked.markers}
    for call in facts.calls:
        if call.outcome is Outcome.REFUSED:
            for marker in call.asked.markers:
                if marker in markers and marker not in may_exist:
                    yield f"{marker} was refused with {call.answer.status if call.answer else 0} and is stored"
    # Where workers are, claims and rescues change jobs too, unseen.
    busy = {connection.executor for connection in facts.opened.values()}
    for job in facts.stored:
        seen = sorted(facts.seen.get(job.job_id, []), key=lambda each: each.at)
        looks = [(each.asked_at, each.at, each.version) for each in seen]
        looks.append((2**63, 2**63, job.version))
        for (since, at, before), (asked_at, until, after) in pairwise(looks):
            if before == after or at > asked_at or job.executor in busy:
                continue
            if not any(_may_change_between(call, since, until) for call in facts.calls_on[job.job_id]):
                yield f"job {job.job_id}: version {before} became {after}, by nothing that was accepted"


def _may_change_between(call: Call, since: int, until: int) -> bool:
    changing = call.asked.operation in CHANGING and call.may_have_taken_effect
    return changing and call.asked.at <= until and call.may_have_ended_at >= since


def _revokes_before_jobs(facts: Facts) -> Iterator[str]:
    for connections in facts.sessions.values():
        known: set[tuple[int, int]] = set()
        for connection in connections:
            known.update(connection.held)
            for line in facts.connections[connection.connection]:
                if isinstance(line, Delivered):
                    known.add((line.job_id, line.fence))
                elif isinstance(line, Revoked) and (line.job_id, line.fence) not in known:
                    yield f"job {line.job_id}: fence {line.fence} revoked on {line.connection}, never delivered there"


def _resumed_wrongly(facts: Facts) -> Iterator[str]:
    for connection in facts.opened.values():
        if connection.resumes is None:
            continue
        for delivery in _deliveries_to(facts, connection.resumes, connection):
            key = delivery.job_id, delivery.fence
            kept = connection.session == connection.resumes and key in connection.held
            ended = facts.may_have_ended_before(*key, connection.at)
            if not kept and not ended and facts.held_until(delivery, connection.asked_at) > connection.at:
                yield f"job {delivery.job_id}: fence {delivery.fence} is not held by {connection.connection}"
        for job_id, fence in connection.held:
            for call in facts.calls_on[job_id]:
                accepted = call.took_effect and call.asked.operation in FENCED and call.asked.fence == fence
                if accepted and call.may_have_ended_at < connection.asked_at:
                    yield f"job {job_id}: fence {fence} is held by {connection.connection}, acknowledged before"


def _deliveries_to(facts: Facts, session: str, until: object) -> Iterator[Delivered]:
    for connection in facts.sessions[session]:
        if connection is until:
            return
        for line in facts.connections[connection.connection]:
            if isinstance(line, Delivered):
                yield line


_JUDGES: dict[Rule, Callable[[Facts], Iterator[str]]] = {
    Rule.EXISTS_ONCE: existence,
    Rule.ENDS: _unfinished,
    Rule.FENCE_GROWS: _fences_that_do_not_grow,
    Rule.LEASES_APART: _leases_that_overlap,
    Rule.ONE_OUTCOME: _second_outcomes,
    Rule.NOTHING_EARLY: _early,
    Rule.FINAL_IS_FINAL: _ends_undone,
    Rule.REFUSAL_CHANGES_NOTHING: _changes_by_refusals,
    Rule.WITHIN_CREDIT: over_credit,
    Rule.REVOKE_AFTER_JOB: _revokes_before_jobs,
    Rule.RESUME_KEEPS: _resumed_wrongly,
}
