"""Whether every acknowledged enqueue exists once, or was pruned."""

from collections import Counter
from collections.abc import Iterator

from tests.history.facts import Call, Facts

_MAY_LEAD_TO = {"complete": {"complete"}, "cancelled": {"cancel"}}


def existence(facts: Facts) -> Iterator[str]:
    """Give what is wrong with what exists."""
    ids = Counter(job.job_id for job in facts.stored)
    markers = Counter(job.marker for job in facts.stored if job.marker is not None)
    yield from (f"job {job_id} is stored {count} times" for job_id, count in ids.items() if count > 1)
    yield from (f"{marker} is stored {count} times" for marker, count in markers.items() if count > 1)
    id_of: dict[str, int] = {}
    marker_of: dict[int, str] = {}
    for call in facts.calls:
        if not call.took_effect or call.answer is None:
            continue
        for marker, job_id in zip(call.asked.markers, call.answer.job_ids, strict=False):
            if id_of.setdefault(marker, job_id) != job_id:
                yield f"{marker} was acknowledged as job {id_of[marker]} and as job {job_id}"
            if marker_of.setdefault(job_id, marker) != marker:
                yield f"job {job_id} was acknowledged for {marker_of[job_id]} and for {marker}"
        if len(call.answer.job_ids) != len(call.asked.markers):
            yield f"{call.asked.call} was answered with {len(call.answer.job_ids)} of {len(call.asked.markers)} jobs"
    for job in facts.stored:
        if job.marker in id_of and id_of[job.marker] != job.job_id:
            yield f"{job.marker} was acknowledged as job {id_of[job.marker]} and is job {job.job_id}"
    yield from _missing(facts, [job_id for job_id in marker_of if job_id not in ids])


def _missing(facts: Facts, missing: list[int]) -> Iterator[str]:
    prunes = [call for call in facts.calls if call.asked.operation == "prune" and call.may_have_taken_effect]
    for job_id in missing:
        if not any(_may_have_pruned(facts, prune, job_id) for prune in prunes):
            yield f"job {job_id} was acknowledged and is gone"
    if all(prune.took_effect for prune in prunes):
        deleted = sum(prune.answer.deleted for prune in prunes if prune.answer is not None)
        if len(missing) > deleted:
            yield f"{len(missing)} acknowledged jobs are gone, {deleted} were pruned"


def _may_have_pruned(facts: Facts, prune: Call, job_id: int) -> bool:
    enqueued = facts.enqueued[job_id].asked
    if enqueued.executor not in prune.asked.pruned_executors or prune.may_have_ended_at < enqueued.at:
        return False
    leading = _MAY_LEAD_TO.get(prune.asked.pruned_status or "")
    return leading is None or any(
        call.asked.operation in leading and call.may_have_taken_effect and call.asked.at <= prune.may_have_ended_at
        for call in facts.calls_on[job_id]
    )
