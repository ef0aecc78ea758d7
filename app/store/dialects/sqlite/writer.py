"""The writer's thread: one transaction for each batch of the group commit."""

import asyncio
import sqlite3
import sys
import time
from collections.abc import Callable
from threading import Thread
from typing import TypeAlias

from ....domain.errors import InsufficientStorage
from ...effects import EffectsListener
from ...group_commit import GroupCommit, Member, resolve
from ..base import StoreRules
from .administration import update_jobs
from .claim import claim_jobs
from .idempotency import insert_once
from .insert import insert_jobs
from .reserve import Reserve
from .transaction import JobIdSequence, SqliteTransaction

_TRIES = 4
_ADDITIONS = frozenset({insert_jobs, insert_once, update_jobs})
"""What makes the database larger."""

SqliteMember: TypeAlias = Member[SqliteTransaction]

_HANG_SECONDS = 0.2
_LONG = 100
"""Items that make a transaction long."""
_SHORT_SWITCH_SECONDS = 0.000_05


class SqliteWriter:
    """Writes on a held connection in a thread of its own: one hop to it, one back."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        reserve: Reserve,
        commit: GroupCommit[SqliteTransaction],
        rules: StoreRules,
        committed: EffectsListener,
    ) -> None:
        """Write what ``commit`` collects; ``committed`` is called on the event loop after each commit."""
        self._connection = connection
        self._reserve = reserve
        self._commit = commit
        self._rules = rules
        self._sequence = JobIdSequence(connection)
        self._committed = committed
        self._loop = asyncio.get_running_loop()
        self._switch_seconds = sys.getswitchinterval()
        self._was_long = False
        self._thread = Thread(target=self._run, name="sqlite-writer", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Write what was submitted before the close, then close the connection, which checkpoints the file."""
        await asyncio.to_thread(self._thread.join)
        self._connection.close()
        self._reserve.close()
        sys.setswitchinterval(self._switch_seconds)

    def _run(self) -> None:
        while (batch := self._commit.take()) is not None:
            self._loop.call_soon_threadsafe(self._tell, self._write_batch(batch), batch)

    def _tell(self, transaction: SqliteTransaction | None, batch: list[SqliteMember]) -> None:
        if transaction is not None:
            for result, error in transaction.tell():
                _fail([member for member in batch if any(each is result for each in member.results or ())], error)
            self._committed(transaction.effects)
        claims = [member for member in batch if member.run is claim_jobs]
        if len(claims) in (0, len(batch)):
            resolve(batch)
            return
        # Jobs are on their way to workers before their producers are answered, which takes longer.
        resolve(claims)
        self._loop.call_soon(resolve, [member for member in batch if member.run is not claim_jobs])

    def _write_batch(self, batch: list[SqliteMember]) -> SqliteTransaction | None:
        """Write all members in one transaction; return it if it was committed."""
        try:
            batch = self._admitted(batch)
            return self._write_admitted(batch)
        except Exception as error:  # noqa: BLE001 - each member gets its error, and the thread lives on
            _fail(batch, error)
            return None

    def _write_admitted(self, batch: list[SqliteMember]) -> SqliteTransaction | None:
        run = _run_together
        tries = 0
        while batch:
            tries += 1
            try:
                return self._in_transaction(batch, run)
            except Exception as error:
                if tries < _TRIES and self._reserve.spend(error):
                    batch = self._admitted(batch)
                elif self._reserve.is_full(error):
                    raise InsufficientStorage("the disk is full") from error
                elif len(batch) == 1 or run is _run_apart:
                    raise
            # A savepoint for each member costs a fifth of the speed, so they come only after a failure.
            run = _run_apart
        return None

    def _admitted(self, batch: list[SqliteMember]) -> list[SqliteMember]:
        """Refuse what would add to a full disk; return the others."""
        if self._reserve.admits_additions():
            return batch
        _fail([member for member in batch if member.run in _ADDITIONS], InsufficientStorage("the disk is full"))
        return [member for member in batch if member.run not in _ADDITIONS]

    def _in_transaction(
        self, batch: list[SqliteMember], run: Callable[[SqliteTransaction, list[SqliteMember]], None]
    ) -> SqliteTransaction:
        began = time.perf_counter_ns()
        self._share_interpreter(batch)
        # IMMEDIATE: a deferred transaction that turns to writing fails at once, whatever the busy timeout says.
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            transaction = SqliteTransaction(self._connection, self._sequence, self._rules)
            # Claims go last: each is submitted right before the jobs that it is to see, or what makes room for them.
            run(transaction, sorted(batch, key=lambda member: member.run is claim_jobs))
            transaction.finish()
            if transaction.added_bytes:
                self._reserve.cover(transaction.added_bytes)
            self._pass_failpoints("before_commit", batch, hang_seconds=_HANG_SECONDS)
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        tally = transaction.effects.tally
        tally.commit_microseconds = (time.perf_counter_ns() - began) // 1_000
        tally.writes = sum(member.size for member in batch)
        self._pass_failpoints("after_commit", batch, hang_seconds=0)
        return transaction

    def _share_interpreter(self, batch: list[SqliteMember]) -> None:
        """Have the interpreter's lock back sooner in a long transaction, which asks for it after each statement.

        At Python's 5 ms it waits longer than the statement took, while the event loop encodes and reads beside it.
        Short transactions have few statements, and there shorter turns would only slow the event loop down.
        """
        is_long = sum(member.size for member in batch) >= _LONG
        if is_long != self._was_long:
            self._was_long = is_long
            sys.setswitchinterval(_SHORT_SWITCH_SECONDS if is_long else self._switch_seconds)

    def _pass_failpoints(self, moment: str, batch: list[SqliteMember], *, hang_seconds: float) -> None:
        if self._rules.failpoints is None:
            return
        # A function that had nothing to do passes no point.
        for name in {member.run.__name__ for member in batch if any(member.results or ())}:
            self._rules.failpoints.passed(f"{name}.{moment}", hang_seconds=hang_seconds)


def _fail(members: list[SqliteMember], error: Exception) -> None:
    for member in members:
        member.error = error


def _run_together(transaction: SqliteTransaction, batch: list[SqliteMember]) -> None:
    if len(batch) == 1:
        batch[0].results = batch[0].run(transaction, list(batch[0].items))
        return
    groups: dict[object, list[SqliteMember]] = {}
    for member in batch:
        groups.setdefault(member.run, []).append(member)
    for members in groups.values():
        results = members[0].run(transaction, [item for member in members for item in member.items])
        start = 0
        for member in members:
            member.results = results[start : start + len(member.items)]
            start += len(member.items)


def _run_apart(transaction: SqliteTransaction, batch: list[SqliteMember]) -> None:
    """Run each member behind a savepoint, its effects forgotten when it fails."""
    connection = transaction.connection
    for member in batch:
        # What an earlier try said, which was rolled back.
        member.error = None
        connection.execute("SAVEPOINT member")
        try:
            with transaction.undone_on_error():
                member.results = member.run(transaction, list(member.items))
                transaction.write_counts()
        except Exception as error:
            if not connection.in_transaction:
                # A full disk or a failing one: SQLite has rolled everything back.
                raise
            member.error = error
            connection.execute("ROLLBACK TO member")
        connection.execute("RELEASE member")
