"""Collects single enqueues into bulks, without a timer: while one bulk is on its way, the next collects."""

import asyncio
import re
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import NamedTuple, Self

from . import calls
from .calls import Call
from .errors import InvalidRequest
from .job import EnqueuableJob, Enqueued
from .json_text import encode

MAX_BYTES = 8 * 1024 * 1024
"""Of the jobs of one bulk."""
_POINTER = re.compile(r"/jobs/(\d+)(?:/|$)")


class _Waiting(NamedTuple):
    text: bytes
    stored: asyncio.Future[Enqueued]


class Bulk:
    """An async context; at its end all that was enqueued has been stored or refused."""

    def __init__(self, send: Callable[[Call[list[Enqueued]]], Awaitable[list[Enqueued]]], *, max_jobs: int) -> None:
        """Send bulks of at most ``max_jobs`` with ``send``."""
        self._send = send
        self._max_jobs = max_jobs
        self._waiting: deque[_Waiting] = deque()
        self._sender: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Those that were started in this turn have their say first.
        await asyncio.sleep(0)
        while self._sender is not None:
            await asyncio.shield(self._sender)
            await asyncio.sleep(0)

    async def enqueue(self, job: EnqueuableJob) -> Enqueued:
        """Store a job with others; return once it is stored, or raise what was wrong with it.

        Whoever is cancelled while waiting leaves the job behind: it is stored all the same.
        """
        stored: asyncio.Future[Enqueued] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(encode(job), stored))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_all())
        return await stored

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                await self._store(self._take())
        finally:
            self._sender = None
            # None, unless the sending itself was ended: nobody may wait for ever.
            while self._waiting:
                _fail(self._take(), asyncio.CancelledError())

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        room = MAX_BYTES
        while self._waiting and len(batch) < self._max_jobs:
            room -= len(self._waiting[0].text)
            if room < 0 and batch:
                break
            batch.append(self._waiting.popleft())
        return batch

    async def _store(self, batch: list[_Waiting]) -> None:
        """Store a bulk; without those that the service refuses, since one of them would keep the others out."""
        while batch:
            try:
                results = await self._send(calls.enqueue_texts([each.text for each in batch]))
            except InvalidRequest as refusal:
                refused = refused_of(refusal, len(batch))
                _fail([each for index, each in enumerate(batch) if index in refused], refusal)
                batch = [each for index, each in enumerate(batch) if index not in refused]
            except Exception as error:  # noqa: BLE001 - each caller gets it
                _fail(batch, error)
                return
            except BaseException as error:
                # Cancelled, as by the end of the event loop: nobody may wait for ever.
                _fail(batch, error)
                raise
            else:
                for each, result in zip(batch, results, strict=True):
                    if not each.stored.done():
                        each.stored.set_result(result)
                return


def refused_of(refusal: InvalidRequest, count: int) -> set[int]:
    """Return the places of those that the refusal names; where it names none, of all."""
    found = (_POINTER.match(error.get("pointer", "")) for error in refusal.errors)
    named = {int(match[1]) for match in found if match is not None}
    return {place for place in named if place < count} or set(range(count))


def _fail(batch: list[_Waiting], error: BaseException) -> None:
    for each in batch:
        if not each.stored.done():
            each.stored.set_exception(error)
