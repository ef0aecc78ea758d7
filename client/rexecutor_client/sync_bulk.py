"""Collects single enqueues into bulks, for programs without asyncio."""

from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from threading import RLock
from types import TracebackType
from typing import NamedTuple, Self

from . import calls
from .bulk import MAX_BYTES, refused_of
from .calls import Call
from .errors import InvalidRequest
from .job import EnqueuableJob, Enqueued
from .json_text import encode


class _Waiting(NamedTuple):
    text: bytes
    stored: "Future[Enqueued]"


class SyncBulk:
    """A context; at its end all that was enqueued has been stored or refused. Threads may share it."""

    def __init__(self, send: Callable[[Call[list[Enqueued]]], list[Enqueued]], *, max_jobs: int) -> None:
        """Send bulks of at most ``max_jobs`` with ``send``."""
        self._send = send
        self._max_jobs = max_jobs
        self._lock = RLock()  # a callback of a future may enqueue
        self._waiting: list[_Waiting] = []
        self._bytes = 0
        self._refusal: InvalidRequest | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Send the rest. Raises the first refusal, unless something else is: the futures may go unread."""
        with self._lock:
            # A callback of a future may enqueue once more.
            while self._waiting and (error is None or isinstance(error, Exception)):
                self._store_all()
            _fail(self._waiting, CancelledError())
        if error is None and self._refusal is not None:
            raise self._refusal

    def enqueue(self, job: EnqueuableJob) -> "Future[Enqueued]":
        """Store a job with others: whoever fills a bulk sends it, and the end of the context the last.

        What is returned has the result from then on, or what was wrong with this job. Raises NotJson at once, and
        what kept a whole bulk from being stored.
        """
        text = encode(job)
        stored: Future[Enqueued] = Future()
        # It cannot be cancelled: the job would be stored all the same.
        stored.set_running_or_notify_cancel()
        with self._lock:
            if self._bytes + len(text) > MAX_BYTES:
                self._store_all()
            self._waiting.append(_Waiting(text, stored))
            self._bytes += len(text)
            if len(self._waiting) >= self._max_jobs:
                self._store_all()
        return stored

    def _store_all(self) -> None:
        """Store what waits; without what the service refuses, since one such would keep the others out."""
        batch, self._waiting, self._bytes = self._waiting, [], 0
        while batch:
            try:
                results = self._send(calls.enqueue_texts([each.text for each in batch]))
            except InvalidRequest as refusal:
                refused = refused_of(refusal, len(batch))
                _fail([each for index, each in enumerate(batch) if index in refused], refusal)
                self._refusal = self._refusal or refusal
                batch = [each for index, each in enumerate(batch) if index not in refused]
            except BaseException as error:
                _fail(batch, error)
                raise
            else:
                for each, result in zip(batch, results, strict=True):
                    each.stored.set_result(result)
                return


def _fail(batch: list[_Waiting], error: BaseException) -> None:
    for each in batch:
        each.stored.set_exception(error)
