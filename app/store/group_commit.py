"""Many small writes, one transaction, a result or an error for each.

There is no timer: while one transaction commits, the next collects its members; then it goes at once. Members that run
the same function share one call of it.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from ..domain.errors import DatabaseUnavailable

Transaction = TypeVar("Transaction")
Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_ITEMS_PER_COMMIT = 4_000
"""Bounds how long a member may wait for its neighbours; a member with more goes alone."""


class Member(Generic[Transaction]):
    """Items for one function, all done or none; ``results`` or ``error`` is set when the transaction has ended."""

    __slots__ = ("error", "future", "items", "results", "run")

    def __init__(
        self,
        run: Callable[[Transaction, list[Any]], list[Any]],
        items: Sequence[Any],
        future: asyncio.Future[list[Any]],
    ) -> None:
        """Bind a function to its items."""
        self.run = run
        self.items = items
        self.future = future
        self.results: list[Any] | None = None
        self.error: BaseException | None = None


class BatchWriter(Protocol[Transaction]):
    """Runs batches of members elsewhere, one after the other."""

    def write(self, batch: "list[Member[Transaction]]", done: Callable[[], None]) -> None:
        """Begin to write a batch; ``done`` is called on the event loop when each member has results or an error."""


class GroupCommit(Generic[Transaction]):
    """Collects members while a batch is being written, and hands on the next batch as soon as it is done."""

    def __init__(self, writer: BatchWriter[Transaction]) -> None:
        """Collect for a writer."""
        self._writer = writer
        self._waiting: deque[Member[Transaction]] = deque()
        self._busy = False
        self._closed = False

    def close(self) -> None:
        """Take no more members; those that wait are written."""
        self._closed = True

    async def submit(
        self, run: Callable[[Transaction, list[Item]], list[Result]], items: Sequence[Item]
    ) -> list[Result]:
        """Run ``run(transaction, items)`` in the next transaction; return its results once they are durable.

        ``run`` gets the items of several members at once and returns a result for each. Whoever is cancelled while
        waiting leaves its write behind: it is done all the same.
        """
        if self._closed:
            raise DatabaseUnavailable("the database is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Result]] = loop.create_future()
        self._waiting.append(Member(run, items, future))
        if not self._busy:
            self._busy = True
            # In the next turn of the loop: what else this turn submits shares the commit.
            loop.call_soon(self._start)
        return await future

    def _start(self) -> None:
        batch = [self._waiting.popleft()]
        size = len(batch[0].items)
        while self._waiting and size + len(self._waiting[0].items) <= MAX_ITEMS_PER_COMMIT:
            member = self._waiting.popleft()
            size += len(member.items)
            batch.append(member)
        self._writer.write(batch, lambda: self._finish(batch))

    def _finish(self, batch: list[Member[Transaction]]) -> None:
        if self._waiting:
            self._start()
        else:
            self._busy = False
        for member in batch:
            if member.future.done():
                continue
            if member.error is not None:
                member.future.set_exception(member.error)
            else:
                member.future.set_result(member.results or [])
