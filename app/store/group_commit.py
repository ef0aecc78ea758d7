"""Many small writes, one transaction, a result or an error for each.

There is no timer: while one transaction commits, the next collects its members; then it goes at once. Members that run
the same function share one call of it.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from ..domain.errors import DatabaseUnavailable

Transaction = TypeVar("Transaction")
Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_ITEMS_PER_COMMIT = 4_000
"""Bounds how long a member may wait for its neighbours; a member with more goes alone."""


class Member(Generic[Transaction]):
    """Items for one function, all done or none; ``results`` or ``error`` is set when the transaction has ended."""

    __slots__ = ("error", "future", "items", "results", "run", "size")

    def __init__(
        self,
        run: Callable[[Transaction, list[Any]], list[Any]],
        items: Sequence[Any],
        future: asyncio.Future[list[Any]],
        size: int,
    ) -> None:
        """Bind a function to its items, which are as much work as ``size`` single ones."""
        self.run = run
        self.items = items
        self.future = future
        self.size = size
        self.results: list[Any] | None = None
        self.error: BaseException | None = None


class GroupCommit(Generic[Transaction]):
    """Collects members on the event loop; a writer's thread takes all there are whenever it is free.

    The writer takes by itself, and is not handed batches: right after a commit it holds the interpreter's lock, for
    which it would have to wait once more if the event loop had to answer it first.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self._waiting: SimpleQueue[Member[Transaction] | None] = SimpleQueue()
        self._left_over: Member[Transaction] | None = None
        self._closed = False

    def submit(
        self,
        run: Callable[[Transaction, list[Item]], list[Result]],
        items: Sequence[Item],
        *,
        size: int | None = None,
    ) -> asyncio.Future[list[Result]]:
        """Run ``run(transaction, items)`` in the next transaction; its results come once they are durable.

        It is submitted when this returns: what is submitted in one turn of the loop shares a transaction, as a rule.

        ``run`` gets the items of several members at once and returns a result for each. ``size`` tells how many rows
        they stand for, if not one each. Whoever is cancelled while waiting leaves its write behind: it is done all the
        same. Raises DatabaseUnavailable after the close.
        """
        if self._closed:
            raise DatabaseUnavailable("the database is closed")
        future: asyncio.Future[list[Result]] = asyncio.get_running_loop().create_future()
        self._waiting.put(Member(run, items, future, len(items) if size is None else size))
        return future

    def close(self) -> None:
        """Take no more members; those that wait are written."""
        if not self._closed:
            self._closed = True
            self._waiting.put(None)

    def take(self) -> list[Member[Transaction]] | None:
        """Wait for a member and return all there are, up to the bound; None after the close. For the writer."""
        first = self._left_over or self._waiting.get()
        self._left_over = None
        if first is None:
            return None
        batch = [first]
        room = MAX_ITEMS_PER_COMMIT - first.size
        while (member := self._next()) is not None:
            room -= member.size
            if room < 0:
                self._left_over = member
                break
            batch.append(member)
        return batch

    def _next(self) -> Member[Transaction] | None:
        try:
            member = self._waiting.get_nowait()
        except Empty:
            return None
        if member is None:
            # The close: found again when all before it is written.
            self._waiting.put(None)
        return member


def resolve(batch: Iterable[Member[Any]]) -> None:
    """Give each member's caller what came of it; on the event loop, after the commit."""
    for member in batch:
        if member.future.done():
            continue
        if member.error is not None:
            member.future.set_exception(member.error)
        else:
            member.future.set_result(member.results or [])
