"""A claim by REST: one place in line for one answer."""

import asyncio
from collections.abc import Callable, Sequence

from ..domain.errors import OutcomeUnknown
from ..domain.job import Job
from ..store.claim import NewLease


class Poll:
    """Wants up to ``credits`` jobs once; its lease is opened by the claim that brings some."""

    def __init__(self, lease: NewLease, credits: int, *, once: bool, abandon: Callable[[str], None]) -> None:
        """Stand in line for ``lease``; with ``once`` only as long as a job may be due.

        ``abandon`` is told of the session where a claim may have brought it jobs of which nobody knows.
        """
        self._abandon = abandon
        self.lease = lease
        self.returns = False
        self.worker = lease.worker
        self.wanted = credits
        self.is_impatient = once
        self._answer: asyncio.Future[Sequence[Job]] = asyncio.get_running_loop().create_future()

    async def answer(self, seconds: float | None) -> Sequence[Job]:
        """Return jobs as soon as there is one; none once ``seconds`` have passed. Raises what a claim failed with."""
        await asyncio.wait([self._answer], timeout=seconds)
        self.withdraw()
        return self._answer.result()

    def withdraw(self) -> Sequence[Job]:
        """Want nothing any more; return the jobs that have arrived, what arrives later goes back."""
        self.wanted = 0
        if not self._answer.done():
            self._answer.set_result(())
        return () if self._answer.exception() else self._answer.result()

    def reserve(self, credits: int) -> int:
        """Set credits aside for a claim."""
        self.wanted -= credits
        return 0

    def give(self, jobs: Sequence[Job], *, reserved: int, token: int) -> Sequence[Job]:  # noqa: ARG002
        """Take the jobs if there are any, unless the poll was withdrawn."""
        if self._answer.done():
            return jobs
        if jobs:
            self._answer.set_result(jobs)
        else:
            self.wanted += reserved
        return ()

    def hear_no_more_is_due(self) -> None:
        """Answer with no job: the caller does not wait."""
        if not self._answer.done():
            self.wanted = 0
            self._answer.set_result(())

    def refuse(self, error: Exception, *, reserved: int, token: int) -> None:  # noqa: ARG002
        """Fail as the claim did, if there is no answer yet."""
        if isinstance(error, OutcomeUnknown):
            self._abandon(self.lease.session)
        if not self._answer.done():
            self._answer.set_exception(error)
