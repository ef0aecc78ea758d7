"""Repeatable calls on PostgreSQL: the answer is written with the change it tells of, or neither is."""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from ....domain.errors import BackendError
from ....domain.idempotency import Idempotency
from ....domain.job import Ack, Enqueued
from ...calls import Rerun
from ...idempotency import (
    FORGET_BATCH,
    KEPT_MICROSECONDS,
    Answered,
    InsertOnce,
    Kept,
    RerunOnce,
    decode_ack,
    decode_enqueued,
    encode_ack,
    encode_enqueued,
)
from .administration import rerun_jobs
from .locks import IDEMPOTENCY, LOCK_MANY, keys_of
from .transaction import NOW, PostgresTransaction, columns
from .unique import insert_in_order, lock_for

Place: TypeAlias = tuple[str, str]
"""Scope and key."""

# By the index idempotency_keys_key.
_SELECT_KEPT = f"""
SELECT kept.scope, kept.key, kept.body_hash, kept.answer
FROM unnest($1::text[], $2::text[]) AS place (scope, key)
     JOIN idempotency_keys AS kept ON kept.scope = place.scope AND kept.key = place.key
WHERE kept.expires_at > {NOW}
"""
# Replaced is only what has expired and was not forgotten yet.
_KEEP = f"""
INSERT INTO idempotency_keys (scope, key, body_hash, answer, expires_at)
SELECT scope, key, body_hash, answer, {NOW} + {KEPT_MICROSECONDS}
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS given (scope, key, body_hash, answer)
ON CONFLICT (scope, key) DO UPDATE
SET body_hash = excluded.body_hash, answer = excluded.answer, expires_at = excluded.expires_at
"""
# Ids rise with time: what has expired stands at their beginning.
_FORGET = f"""
WITH oldest AS MATERIALIZED (SELECT id, expires_at FROM idempotency_keys ORDER BY id LIMIT {FORGET_BATCH})
DELETE FROM idempotency_keys WHERE id IN (SELECT id FROM oldest WHERE expires_at <= {NOW})
RETURNING id
"""


async def insert_once(
    transaction: PostgresTransaction, calls: Sequence[InsertOnce]
) -> list[Answered[list[Enqueued]] | BackendError]:
    """Store the jobs of each call whose key has no answer yet, all or none; repeats get the answer that is kept.

    Raises PayloadTooLarge as insert_unique does.
    """
    await transaction.begin()
    await _lock(transaction, [call.idempotency for call in calls])
    kept = await _select(transaction, [call.idempotency for call in calls])
    first: dict[Place, InsertOnce] = {}
    for call in calls:
        place = _place(call.idempotency)
        if place not in kept:
            first.setdefault(place, call)
    jobs = [job for call in first.values() for job in call.jobs]
    await lock_for(transaction, jobs)
    enqueued = iter(await insert_in_order(transaction, jobs))
    fresh = {
        place: Kept(call.idempotency.body_hash, encode_enqueued([next(enqueued) for _ in call.jobs]))
        for place, call in first.items()
    }
    await _keep(transaction, fresh)
    kept |= fresh
    return [
        kept[place].to(call.idempotency, decode_enqueued, is_replay=first.get(place) is not call)
        for call in calls
        for place in (_place(call.idempotency),)
    ]


async def rerun_once(
    transaction: PostgresTransaction, calls: Sequence[RerunOnce]
) -> list[Answered[Ack] | BackendError]:
    """Make jobs due now, one after the other; repeats get the answer that is kept. A refusal is not kept."""
    await transaction.begin()
    await _lock(transaction, [call.idempotency for call in calls])
    return [await _rerun_once(transaction, call) for call in calls]


async def forget_answers(transaction: PostgresTransaction) -> int:
    """Delete answers that have expired, a bounded number; return how many."""
    return len(await transaction.connection.fetch(_FORGET))


async def _rerun_once(transaction: PostgresTransaction, call: RerunOnce) -> Answered[Ack] | BackendError:
    place = _place(call.idempotency)
    kept = (await _select(transaction, [call.idempotency])).get(place)
    if kept is not None:
        return kept.to(call.idempotency, decode_ack, is_replay=True)
    (outcome,) = await rerun_jobs(transaction, [Rerun(call.job_id, call.force)])
    if isinstance(outcome, BackendError):
        return outcome
    await _keep(transaction, {place: Kept(call.idempotency.body_hash, encode_ack(outcome))})
    return Answered(outcome, is_replay=False)


async def _lock(transaction: PostgresTransaction, calls: Iterable[Idempotency]) -> None:
    """Wait for the same calls in other processes: what they answered is found then."""
    keys = keys_of(f"{call.scope}\0{call.key}" for call in calls)
    await transaction.connection.execute(LOCK_MANY, IDEMPOTENCY, keys)


async def _select(transaction: PostgresTransaction, calls: Iterable[Idempotency]) -> dict[Place, Kept]:
    rows = await transaction.connection.fetch(_SELECT_KEPT, *columns(map(_place, calls), 2))
    return {(scope, key): Kept(body_hash, answer) for scope, key, body_hash, answer in rows}


async def _keep(transaction: PostgresTransaction, kept: dict[Place, Kept]) -> None:
    rows = [(*place, each.body_hash, each.answer) for place, each in kept.items()]
    if rows:
        await transaction.connection.execute(_KEEP, *columns(rows, 4))


def _place(call: Idempotency) -> Place:
    return call.scope, call.key
