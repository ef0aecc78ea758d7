"""Any sequence of unique enqueues does what an oracle in memory does."""

from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.backend.extensions import Service
from app.domain.job import EnqueueOutcome
from app.domain.pruning import MaxLength, PruneSpec
from app.domain.query import StatusEqual
from app.domain.status import JobStatus
from app.domain.uniqueness import Replace, ReplaceField, UniquenessCriteria
from tests.builders import new_job
from tests.services import on_both_databases
from tests.store.statuses import bring_to

pytestmark = on_both_databases

AT = 1_800_000_000_000_000
EXISTING, INSERTED, REPLACED = EnqueueOutcome.EXISTING, EnqueueOutcome.INSERTED, EnqueueOutcome.REPLACED


@dataclass
class Stored:
    id: int
    executor: str
    key: str | int | None
    status: JobStatus
    at: int
    priority: int


def oracle_enqueue(
    stored: list[Stored], ids: Any, *, executor: str, at: int, priority: int, criteria: UniquenessCriteria | None
) -> tuple[int, EnqueueOutcome]:
    """What an enqueue does to a list of jobs."""
    if criteria is not None:
        duplicates = [
            job
            for job in stored
            if (criteria.key is None or (type(job.key) is type(criteria.key) and job.key == criteria.key))
            and (not criteria.executor or job.executor == executor)
            and (criteria.duration is None or abs(job.at - at) <= criteria.duration // timedelta(microseconds=1))
            and job.status in (criteria.statuses or (JobStatus.SCHEDULED,))
        ]
        if duplicates:
            job = min(duplicates, key=lambda job: (abs(job.at - at), job.id))
            if criteria.on_conflict is None or job.status not in criteria.on_conflict.for_statuses:
                return job.id, EXISTING
            if ReplaceField.PRIORITY in criteria.on_conflict.fields:
                job.priority = priority
            if ReplaceField.SCHEDULED_AT in criteria.on_conflict.fields:
                job.at = at
            return job.id, REPLACED
    job_id = next(ids)
    key = None if criteria is None else criteria.key
    stored.append(Stored(job_id, executor, key, JobStatus.SCHEDULED, at, priority))
    return job_id, INSERTED


criteria_strategy = st.builds(
    UniquenessCriteria,
    key=st.sampled_from([None, None, "1", 1, "2"]),
    executor=st.booleans(),
    duration=st.sampled_from([None, None, timedelta(0), timedelta(microseconds=2), timedelta(microseconds=5)]),
    statuses=st.none() | st.lists(st.sampled_from(JobStatus), min_size=1, max_size=3).map(tuple),
    on_conflict=st.none()
    | st.builds(
        Replace,
        st.frozensets(st.sampled_from([ReplaceField.PRIORITY, ReplaceField.SCHEDULED_AT]), min_size=1),
        st.frozensets(st.sampled_from(JobStatus), min_size=1),
    ),
).filter(lambda criteria: criteria.constrains)

steps = st.lists(
    st.one_of(
        st.fixed_dictionaries(
            {
                "executor": st.sampled_from(["a", "b"]),
                "at": st.integers(AT, AT + 8),
                "priority": st.integers(0, 2),
                "criteria": st.none() | criteria_strategy,
            }
        ),
        st.tuples(st.integers(0, 20), st.sampled_from(JobStatus)),
    ),
    max_size=14,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
async def test_sequences_of_enqueues_do_what_the_oracle_does(service, steps):
    await empty(service)
    stored: list[Stored] = []
    ids = count()
    real_ids: dict[int, int] = {}
    for step in steps:
        if isinstance(step, tuple):
            index, status = step
            waiting = [job for job in stored if job.status is JobStatus.SCHEDULED]
            if waiting:
                job = waiting[index % len(waiting)]
                await bring_to_here(service, real_ids[job.id], job, status)
            continue
        outcome = oracle_enqueue(stored, ids, **step)
        enqueued = await service.enqueue(
            new_job(step["executor"], scheduled_at=step["at"], priority=step["priority"], unique=step["criteria"])
        )
        if outcome[1] is INSERTED:
            real_ids[outcome[0]] = enqueued.id
        assert (real_ids[outcome[0]], outcome[1]) == (enqueued.id, enqueued.outcome)
    for job in stored:
        real = await service.get_job(real_ids[job.id])
        assert (real.status, real.scheduled_at, real.priority) == (job.status, job.at, job.priority)


async def bring_to_here(service: Service, job_id: int, job: Stored, status: JobStatus) -> None:
    await bring_to(service, job_id, status)
    job.status = status
    if status is JobStatus.EXECUTING:
        job.priority = 0


async def empty(service: Service) -> None:
    for job in (await service.query(StatusEqual(JobStatus.EXECUTING), limit=1000)).jobs:
        await service.mark_job_complete(job.id)
    for status in JobStatus:
        if status is not JobStatus.EXECUTING:
            await service.prune_jobs(PruneSpec(status, MaxLength(0)))
