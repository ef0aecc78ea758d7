"""Repeatable calls on SQLite: the answer is written with the change it tells of, or neither is."""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import msgspec

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
from .insert import insert_jobs
from .transaction import SqliteTransaction

_ROW_BYTES = 800
"""What a key takes at most beside its answer, for the index too."""

Place: TypeAlias = tuple[str, str]
"""Scope and key."""

# By the index idempotency_keys_key, and one step however many are asked for: as with inserts, each costs a hand-over
# of the interpreter's lock. CROSS JOIN keeps the order of the two.
SELECT_KEPT = """
SELECT kept.scope, kept.key, kept.body_hash, kept.answer
FROM json_each(:places) AS place CROSS JOIN idempotency_keys AS kept INDEXED BY idempotency_keys_key
WHERE kept.scope = json_extract(place.value, '$[0]') AND kept.key = json_extract(place.value, '$[1]')
  AND kept.expires_at > :now
"""
# Replaced is only what has expired and was not forgotten yet.
_KEEP = """
INSERT OR REPLACE INTO idempotency_keys (scope, key, body_hash, answer, expires_at)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
       json_extract(value, '$[3]'), :expires_at
FROM json_each(:kept)
"""
# Ids rise with time: what has expired stands at their beginning.
FORGET = """
DELETE FROM idempotency_keys
WHERE id IN (SELECT id FROM idempotency_keys ORDER BY id LIMIT :limit) AND expires_at <= :now
"""


def insert_once(
    transaction: SqliteTransaction, calls: Sequence[InsertOnce]
) -> list[Answered[list[Enqueued]] | BackendError]:
    """Store the jobs of each call whose key has no answer yet, all or none; repeats get the answer that is kept.

    Raises PayloadTooLarge as insert_jobs does.
    """
    kept = _select(transaction, [call.idempotency for call in calls])
    first: dict[Place, InsertOnce] = {}
    for call in calls:
        place = _place(call.idempotency)
        if place not in kept:
            first.setdefault(place, call)
    enqueued = iter(insert_jobs(transaction, [job for call in first.values() for job in call.jobs]))
    fresh = {
        place: Kept(call.idempotency.body_hash, encode_enqueued([next(enqueued) for _ in call.jobs]))
        for place, call in first.items()
    }
    _keep(transaction, fresh)
    transaction.added_bytes += sum(_ROW_BYTES + len(each.answer) for each in fresh.values())
    kept |= fresh
    return [
        kept[place].to(call.idempotency, decode_enqueued, is_replay=first.get(place) is not call)
        for call in calls
        for place in (_place(call.idempotency),)
    ]


def rerun_once(transaction: SqliteTransaction, calls: Sequence[RerunOnce]) -> list[Answered[Ack] | BackendError]:
    """Make jobs due now, one after the other; repeats get the answer that is kept. A refusal is not kept."""
    return [_rerun_once(transaction, call) for call in calls]


def forget_answers(transaction: SqliteTransaction, calls: Sequence[None]) -> list[int]:
    """Delete answers that have expired, a bounded number; return how many."""
    return [
        transaction.connection.execute(FORGET, {"limit": FORGET_BATCH, "now": transaction.now}).rowcount for _ in calls
    ]


def _rerun_once(transaction: SqliteTransaction, call: RerunOnce) -> Answered[Ack] | BackendError:
    place = _place(call.idempotency)
    kept = _select(transaction, [call.idempotency]).get(place)
    if kept is not None:
        return kept.to(call.idempotency, decode_ack, is_replay=True)
    (outcome,) = rerun_jobs(transaction, [Rerun(call.job_id, call.force)])
    if isinstance(outcome, BackendError):
        return outcome
    _keep(transaction, {place: Kept(call.idempotency.body_hash, encode_ack(outcome))})
    return Answered(outcome, is_replay=False)


def _select(transaction: SqliteTransaction, calls: Iterable[Idempotency]) -> dict[Place, Kept]:
    places = msgspec.json.encode([_place(call) for call in calls]).decode()
    rows = transaction.connection.execute(SELECT_KEPT, {"places": places, "now": transaction.now})
    return {(scope, key): Kept(body_hash, answer) for scope, key, body_hash, answer in rows}


def _keep(transaction: SqliteTransaction, kept: dict[Place, Kept]) -> None:
    rows = [(*place, each.body_hash, each.answer) for place, each in kept.items()]
    transaction.connection.execute(
        _KEEP,
        {"kept": msgspec.json.encode(rows).decode(), "expires_at": transaction.now + KEPT_MICROSECONDS},
    )


def _place(call: Idempotency) -> Place:
    return call.scope, call.key
