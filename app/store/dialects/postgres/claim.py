"""Claim on PostgreSQL: the best due jobs of an executor, in one statement, which is its transaction."""

from collections.abc import Sequence
from typing import Any

import msgspec

from ....domain.job import Job, JobError
from ....domain.json_text import JsonText
from ....domain.status import JobStatus
from ....observability.metrics import CLAIMED
from ...claim import ClaimCall, Claimed, Demand, NewLease, deal
from .claim_statement import CLAIM, CLAIM_OPENING_LEASES, NEXT_LEASE_IDS
from .transaction import Connection, PostgresTransaction, columns

_errors: msgspec.json.Decoder[list[tuple[int, str, str, int]]] = msgspec.json.Decoder(list[tuple[int, str, str, int]])


async def claim_jobs(transaction: PostgresTransaction, calls: Sequence[ClaimCall]) -> list[Claimed]:
    """Answer a claim. Each statement is a transaction: of two calls one could fail when the other was committed."""
    (call,) = calls
    return [await _claim(transaction, call)]


async def _claim(transaction: PostgresTransaction, call: ClaimCall) -> Claimed:
    demands = call.demands
    connection = transaction.connection
    claimed = Claimed([[] for _ in demands], [None] * len(demands))
    leases = await _lease_ids(connection, demands)
    turns = deal([demand.credits for demand in demands], sum(demand.credits for demand in demands))
    parameters: list[Any] = [
        call.executor,
        leases,
        [msgspec.json.encode(demand.worker).decode() for demand in demands],
        [int(demand.lease.seconds * 1_000_000) if isinstance(demand.lease, NewLease) else None for demand in demands],
        [place + 1 for place in turns],
        transaction.grace,
    ]
    new = [
        (lease_id, demand.lease.session, demand.lease.worker, int(demand.lease.connected))
        for lease_id, demand in zip(leases, demands, strict=True)
        if isinstance(demand.lease, NewLease)
    ]
    if new:
        parameters += [transaction.rules.owner, *columns(new, 4)]
    rows = await connection.fetch(CLAIM_OPENING_LEASES if new else CLAIM, *parameters)
    summary = next(row for row in rows if row["now"] is not None)
    due = sorted((row for row in rows if row["turn"] is not None), key=lambda row: row["turn"])
    living = {place - 1 for place in summary["living"] or ()}
    wanted = sum(place in living for place in turns)
    for row in due:
        claimed.jobs[row["place"] - 1].append(_job(row, call.executor, summary["now"]))
    for index in living:
        if claimed.jobs[index] or not isinstance(demands[index].lease, NewLease):
            claimed.lease_ids[index] = leases[index]
    if due:
        transaction.effects.tally.count(CLAIMED, call.executor, by=len(due))
    # Nothing wanted is not enough either: then every lease in line has run out, and asking again would not help.
    claimed.was_enough = 0 < wanted == len(due)
    if len(due) < wanted:
        was_cut = len(due) < summary["best"]
        claimed.was_all = not was_cut
        claimed.next_due_at = summary["now"] if was_cut else summary["next_due_at"]
    return claimed


async def _lease_ids(connection: Connection, demands: Sequence[Demand]) -> list[int]:
    """Return the lease of each demand; those that may be opened have an id by now."""
    missing = sum(isinstance(demand.lease, NewLease) for demand in demands)
    fresh = iter(await connection.fetch(NEXT_LEASE_IDS, missing) if missing else ())
    return [next(fresh)[0] if isinstance(demand.lease, NewLease) else demand.lease for demand in demands]


def _job(row: Any, executor: str, now: int) -> Job:
    errors = [] if row["errors"] is None else [JobError(*error) for error in _errors.decode(row["errors"])]
    key = row["uniqueness_key"]
    return Job(
        id=row["id"],
        executor=executor,
        status=JobStatus.EXECUTING,
        data=JsonText(row["data"]),
        metadata=JsonText(row["metadata"]),
        attempt=row["attempt"],
        max_attempts=row["max_attempts"],
        priority=row["priority"],
        tags=JsonText(row["tags"]),
        errors=errors,
        error_count=row["error_count"],
        inserted_at=row["inserted_at"],
        scheduled_at=row["scheduled_at"],
        attempted_at=now,
        finished_at=None,
        attempted_by=JsonText(row["attempted_by"]),
        uniqueness_key=None if key is None else JsonText(key),
        fence=row["fence"],
        lease_expires_at=row["expires_at"],
        version=row["version"],
    )
