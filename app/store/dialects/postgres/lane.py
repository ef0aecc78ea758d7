"""Group commit without a thread: while one transaction commits, the next collects its members.

A lane has connections of its own, so that no lane waits for another. There is no timer, and an idle lane has no task.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import asyncpg

from ....domain.errors import DatabaseUnavailable, OutcomeUnknown
from ....observability.failpoints import exit_here
from ...group_commit import MAX_ITEMS_PER_COMMIT, Member, resolve
from ..base import StoreRules
from .connection import Road
from .transaction import Connection, PostgresTransaction

Item = TypeVar("Item")
Result = TypeVar("Result")

PostgresMember: TypeAlias = Member[Any]
Write: TypeAlias = Callable[[PostgresTransaction, Sequence[Item]], Awaitable[list[Result]]]
"""Runs in a transaction, on the items of several callers at once; returns a result for each."""

_TRIES = 4
_AGAIN = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
_ROLLBACK_SECONDS = 2.0
_LONGEST_PAUSE_SECONDS = 0.05
_HANG_SECONDS = 0.2


class Lane:
    """Runs functions in transactions, the members of one function together; each is told of, in order of commit."""

    def __init__(
        self,
        road: Road,
        rules: StoreRules,
        told: Callable[[PostgresTransaction], None],
        doubted: Callable[[], None],
        *,
        width: int = 1,
        alone: bool = False,
    ) -> None:
        """Use up to ``width`` connections, each opened when it is first needed and when it was lost.

        With ``alone``, members never share a transaction. ``doubted`` hears of each transaction whose outcome nobody
        knows, before its members do.
        """
        self._road = road
        self._rules = rules
        self._told = told
        self._doubted = doubted
        self._idle: list[Connection | None] = [None] * width
        self._waiting: deque[PostgresMember] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._alone = alone
        self._closed = False

    async def submit(
        self,
        run: Write[Item, Result],
        items: Sequence[Item],
        *,
        size: int | None = None,
    ) -> list[Result]:
        """Run ``run(transaction, items)`` in the next transaction; return its results once they are durable.

        ``run`` gets the items of several members at once and returns a result for each. ``size`` tells how many rows
        they stand for, if not one each. Whoever is cancelled while waiting leaves its write behind: it is done all the
        same. Raises DatabaseUnavailable after the close.
        """
        if self._closed:
            raise DatabaseUnavailable("the database is closed")
        future: asyncio.Future[list[Result]] = asyncio.get_running_loop().create_future()
        run_any: Callable[..., Any] = run
        self._waiting.append(Member(run_any, items, future, len(items) if size is None else size))
        if self._idle:
            # It begins in the loop's next turn: what is submitted until then shares its transaction.
            task = asyncio.create_task(self._work(self._idle.pop()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    async def close(self) -> None:
        """Take no more members; write those that wait, and close the connections."""
        self._closed = True
        while self._tasks:
            await asyncio.wait(self._tasks)
        for connection in self._idle:
            if connection is not None:
                await close_quietly(connection)

    async def _work(self, connection: Connection | None) -> None:
        try:
            while batch := self._take():
                if connection is not None and connection.is_closed():
                    connection = None
                try:
                    connection = connection or await self._road.connect(hot=True)
                except Exception as error:  # noqa: BLE001 - each member gets its error, and the lane lives on
                    # Those behind it would wait for the same in turn, each for the whole time limit.
                    batch += self._waiting
                    self._waiting.clear()
                    _fail(batch, unavailable(error))
                    resolve(batch)
                    continue
                try:
                    await self._write(connection, batch)
                except Exception as error:  # noqa: BLE001 - each member gets its error, and the lane lives on
                    _fail(batch, unavailable(error))
                resolve(batch)
        finally:
            self._idle.append(connection)

    def _take(self) -> list[PostgresMember]:
        """Return those that wait for the same function as the first, up to the bound; the others keep their places."""
        if not self._waiting:
            return []
        if self._alone:
            return [self._waiting.popleft()]
        run = self._waiting[0].run
        batch: list[PostgresMember] = []
        room = max(MAX_ITEMS_PER_COMMIT, self._waiting[0].size)
        left: deque[PostgresMember] = deque()
        for member in self._waiting:
            if member.run == run and member.size <= room:
                room -= member.size
                batch.append(member)
            else:
                left.append(member)
        self._waiting = left
        return batch

    async def _write(self, connection: Connection, batch: list[PostgresMember]) -> None:
        try:
            await self._write_retrying(connection, batch)
        except Exception as error:
            if len(batch) == 1 or is_unavailable(error) or connection.is_closed():
                raise
            # One of them is at fault: each for itself.
            for member in batch:
                try:
                    await self._write_retrying(connection, [member])
                except Exception as own:  # noqa: BLE001 - it is the member's
                    member.error = unavailable(own)
                    if connection.is_closed():
                        # The others were rolled back with the batch, and nothing more of them was sent.
                        left = batch[batch.index(member) + 1 :]
                        _fail(left, DatabaseUnavailable("the database did not answer"))
                        return

    async def _write_retrying(self, connection: Connection, batch: list[PostgresMember]) -> None:
        for _ in range(_TRIES - 1):
            try:
                await self._in_transaction(connection, batch)
            except _AGAIN:
                # Not in step with whoever else was told to try again.
                await asyncio.sleep(random.uniform(0, _LONGEST_PAUSE_SECONDS))  # noqa: S311
            else:
                return
        await self._in_transaction(connection, batch)

    async def _in_transaction(self, connection: Connection, batch: list[PostgresMember]) -> None:
        began = time.perf_counter_ns()
        transaction = PostgresTransaction(connection, self._rules, self._road.begin)
        try:
            if self._road.is_pooled or self._has_failpoints(batch):
                # Of the road, its settings hold for the transaction only; of a failpoint, there is a time before the
                # commit: there must be one.
                await transaction.open()
            results = await _awaitable(batch[0].run)(transaction, [item for member in batch for item in member.items])
            await self._pass_failpoint("before_commit", batch, results, hang_seconds=_HANG_SECONDS)
            await transaction.commit()
        except BaseException as error:
            if isinstance(error, Exception) and (connection.is_closed() or _says_nothing(error)):
                # What was sent may be executed, or may have been: only the database knows.
                self._doubted()
                connection.terminate()
                raise OutcomeUnknown("the database did not answer") from error
            await _roll_back(transaction)
            raise
        start = 0
        for member in batch:
            member.results = results[start : start + len(member.items)]
            start += len(member.items)
        tally = transaction.effects.tally
        tally.commit_microseconds = (time.perf_counter_ns() - began) // 1_000
        tally.writes = len(results)
        await self._pass_failpoint("after_commit", batch, results, hang_seconds=0)
        self._told(transaction)

    def _has_failpoints(self, batch: list[PostgresMember]) -> bool:
        points = self._rules.failpoints
        return points is not None and points.are_in(batch[0].run.__name__)

    async def _pass_failpoint(
        self, moment: str, batch: list[PostgresMember], results: list[Any], *, hang_seconds: float
    ) -> None:
        points = self._rules.failpoints
        # A function that had nothing to do passes no point.
        if points is not None and any(results) and points.reached(f"{batch[0].run.__name__}.{moment}"):
            # What another was told too early gets out.
            await asyncio.sleep(hang_seconds)
            exit_here()


async def close_quietly(connection: Connection) -> None:
    """Close a connection, whatever state it is in."""
    try:
        await connection.close(timeout=_ROLLBACK_SECONDS)
    except Exception:  # noqa: BLE001 - it is of no use any more
        connection.terminate()


def is_unavailable(error: Exception) -> bool:
    """Whether an error is the server's or the way's to it, and not the call's."""
    return isinstance(
        error,
        OSError
        | TimeoutError
        | asyncpg.InterfaceError
        | asyncpg.PostgresConnectionError
        | asyncpg.OperatorInterventionError
        | asyncpg.InsufficientResourcesError,
    ) and not isinstance(error, ValueError)


def unavailable(error: Exception) -> Exception:
    """Return what the callers of a member hear of its error."""
    if not is_unavailable(error) or isinstance(error, asyncpg.DiskFullError):
        return error
    wrapped = DatabaseUnavailable("the database did not answer")
    wrapped.__cause__ = error
    return wrapped


def _says_nothing(error: Exception) -> bool:
    """Whether an error leaves open what became of the statement: a refusal of the database's does not."""
    if isinstance(error, asyncpg.QueryCanceledError | asyncpg.InsufficientResourcesError):
        return False
    return is_unavailable(error)


async def _roll_back(transaction: PostgresTransaction) -> None:
    connection = transaction.connection
    if connection.is_closed() or not (transaction.is_open or connection.is_in_transaction()):
        return
    try:
        await connection.execute("ROLLBACK", timeout=_ROLLBACK_SECONDS)
    except BaseException:
        # Its end is the end of its transaction.
        connection.terminate()
        raise


def _awaitable(run: Any) -> Write[Any, Any]:
    """Return a member's function as what a lane takes."""
    write: Write[Any, Any] = run
    return write


def _fail(members: list[PostgresMember], error: Exception) -> None:
    for member in members:
        member.error = error
