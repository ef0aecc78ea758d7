"""Unique enqueues on PostgreSQL: one after the other under advisory locks, among all processes."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec

from ....domain.errors import PayloadTooLarge
from ....domain.instant import MICROSECOND, Instant
from ....domain.job import EnqueuableJob, Enqueued, EnqueueOutcome
from ....domain.status import READY
from ....domain.uniqueness import Replace, ReplaceField, UniquenessCriteria
from ....observability.metrics import ENQUEUED
from .duplicates import select_duplicate
from .insert import check_payload, insert_rows, scheduled_at
from .locks import LOCK_IN_MODES, MOVES, UNIQUE, UNIQUE_BY_KEY, UNIQUE_IN_EXECUTOR, key_of_name
from .transaction import PostgresTransaction, columns

_EVER = 2**62
_EVERYTHING = [(UNIQUE, 0, True)]
_MOST_LOCKS = 200
"""In one transaction: the server has room for some thousands in all."""


async def insert_unique(transaction: PostgresTransaction, jobs: Sequence[EnqueuableJob]) -> list[Enqueued]:
    """Store jobs in order; a unique one sees those before it.

    Raises PayloadTooLarge when a replace would leave a job beyond the limit.
    """
    await transaction.begin()
    await lock_for(transaction, jobs)
    return await insert_in_order(transaction, jobs)


async def lock_for(transaction: PostgresTransaction, jobs: Sequence[EnqueuableJob]) -> None:
    """Take all locks that unique jobs need, up front and in the one order: what is searched for later stays away."""
    if any(job.uniqueness_criteria is not None for job in jobs):
        await transaction.connection.execute(LOCK_IN_MODES, *columns(_locks(jobs), 3))


def _locks(jobs: Sequence[EnqueuableJob]) -> list[tuple[int, int, bool]]:
    """Return kinds, keys and whether to lock exclusively, in the order in which all take them.

    Of two enqueues that might each miss what the other writes, one waits. Who searches an executor has it for itself,
    who only inserts into it, with a key or none, shares it; who searches by a key has the key for itself. A key alone
    finds jobs of other executors too: it shares a lock with its like, so that no search by executor moves such a job
    meanwhile. What searches everywhere, or moves what a key alone finds, has all for itself.
    """
    wanted: dict[tuple[int, int], bool] = {(UNIQUE, 0): False}

    def want(kind: int, name: str, *, exclusive: bool) -> None:
        place = kind, key_of_name(name)
        wanted[place] = exclusive or wanted.get(place, False)

    for job in jobs:
        criteria = job.uniqueness_criteria
        by_executor = criteria is not None and criteria.key is None and criteria.executor
        want(UNIQUE_IN_EXECUTOR, job.executor, exclusive=by_executor)
        if criteria is None:
            continue
        moves = criteria.on_conflict is not None and ReplaceField.SCHEDULED_AT in criteria.on_conflict.fields
        if not criteria.executor and (criteria.key is None or moves):
            return _EVERYTHING
        if criteria.key is not None:
            want(UNIQUE_BY_KEY, msgspec.json.encode(criteria.key).decode(), exclusive=True)
        if not criteria.executor or (by_executor and moves):
            want(MOVES, "", exclusive=by_executor)
    if len(wanted) > _MOST_LOCKS:
        return _EVERYTHING
    return [(*place, exclusive) for place, exclusive in sorted(wanted.items())]


async def insert_in_order(transaction: PostgresTransaction, jobs: Sequence[EnqueuableJob]) -> list[Enqueued]:
    """Store jobs in order, under the locks that the unique ones need."""
    results: dict[int, Enqueued] = {}
    pending: dict[int, EnqueuableJob] = {}

    async def flush() -> None:
        inserted = await insert_rows(transaction, list(pending.values()))
        results.update(zip(pending, inserted, strict=True))
        pending.clear()

    for index, job in enumerate(jobs):
        if job.uniqueness_criteria is not None:
            await flush()
            try:
                met = await _meet_duplicate(transaction, job, job.uniqueness_criteria)
            except PayloadTooLarge as error:
                error.index = index
                raise
            if met is not None:
                transaction.effects.tally.count(ENQUEUED, job.executor, met.outcome)
                results[index] = met
                continue
        pending[index] = job
    await flush()
    return [results[index] for index in range(len(jobs))]


async def _meet_duplicate(
    transaction: PostgresTransaction, job: EnqueuableJob, criteria: UniquenessCriteria
) -> Enqueued | None:
    """Return what came of the duplicate, replaced if the criteria say so; None where there is none."""
    at = scheduled_at(job, transaction.now)
    window = _EVER if criteria.duration is None else criteria.duration // MICROSECOND
    statement = select_duplicate(
        criteria.compared_statuses, by_key=criteria.key is not None, by_executor=criteria.executor
    )
    parameters: list[Any] = [at, at - window, at + window]
    if criteria.key is not None:
        parameters.append(msgspec.json.encode(criteria.key).decode())
    if criteria.executor:
        parameters.append(job.executor)
    while True:
        found = await transaction.connection.fetchrow(statement, *parameters)
        if found is None:
            return None
        job_id, status, version = found
        if criteria.on_conflict is None or status not in criteria.on_conflict.for_statuses:
            return Enqueued(job_id, EnqueueOutcome.EXISTING)
        if await _replace_unchanged(transaction, criteria.on_conflict, job, at, job_id=job_id, version=version):
            return Enqueued(job_id, EnqueueOutcome.REPLACED)


async def _replace_unchanged(
    transaction: PostgresTransaction, replace: Replace, job: EnqueuableJob, at: Instant, *, job_id: int, version: int
) -> bool:
    """Replace members of a duplicate unless it was changed since it was found; return whether it was replaced."""
    values = _values(replace, job, at)
    replaced = await transaction.connection.fetchrow(
        _replace_statement(tuple(values)), job_id, version, *values.values()
    )
    if replaced is None:
        return False
    await check_payload(transaction, job_id)
    if replaced["status"] in READY:
        transaction.effects.add_ready(replaced["executor"], replaced["scheduled_at"])
    return True


@cache
def _replace_statement(names: tuple[str, ...]) -> str:
    # The names come from ReplaceField, never from input. Whatever changes a job changes its version: the duplicate is
    # still one, and its status one of those for which it is to be replaced.
    assignments = [
        f"{name} = greatest(${number}, attempt)" if name == ReplaceField.MAX_ATTEMPTS else f"{name} = ${number}"
        for number, name in enumerate(names, start=3)
    ]
    return f"""
    UPDATE jobs SET {", ".join(assignments)}, version = version + 1
    WHERE id = $1 AND version = $2 RETURNING status, executor, scheduled_at
    """


def _values(replace: Replace, job: EnqueuableJob, at: Instant) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in sorted(replace.fields):
        match field:
            case ReplaceField.SCHEDULED_AT:
                values["scheduled_at"] = at
            case ReplaceField.PRIORITY:
                values["priority"] = job.priority
            case ReplaceField.MAX_ATTEMPTS:
                values["max_attempts"] = job.max_attempts
            case ReplaceField.DATA:
                values |= {"data": job.data.text, "data_canonical": job.data.canonical}
            case ReplaceField.METADATA:
                values |= {"metadata": job.metadata.text, "metadata_canonical": job.metadata.canonical}
    return values
