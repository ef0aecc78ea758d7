"""One connection's place in line: its credits, its held jobs, early revocations."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

from ..domain.job import Job
from ..domain.lifecycle import RevokeReason, Settlement
from ..domain.limits import MAX_HELD, MAX_OPEN_CREDITS
from ..domain.stream import Drain, Event, Hello, Revoke, Stopped, SubscriptionClosed, SubscriptionReplaced
from ..store.claim import MAX_STREAM_CLAIM

_MAX_UNSENT_CHARACTERS = 1024 * 1024


class Subscription:
    """A stream's place; fits the contract's ``Subscription``.

    A credit is open, reserved for a claim that is under way, or spent on a job that is held. All methods but ``next``
    and ``close`` return at once, so that between two awaits the numbers agree.
    """

    def __init__(
        self,
        *,
        hello: Hello,
        executor: str,
        leases: Iterable[int],
        worker: str,
        prefetch: int,
        claims_along: bool,
        expect_credits: Callable[[], None],
        demand_changed: Callable[[], None],
        give_back: Callable[[Sequence[Job]], None],
        left: Callable[["Subscription", Sequence[Job]], Awaitable[None]],
        confirm: Callable[["Subscription"], None],
    ) -> None:
        """Begin with what ``hello`` tells; the callbacks lead to the dispatcher and the registry."""
        self.hello = hello
        self.executor = executor
        self.leases = [*leases]
        """All leases of this session, this connection's first: some of its jobs may have one of their own."""
        self.lease = self.leases[0]
        self.worker = worker
        self._credits = hello.credits
        self.alive_at = asyncio.get_running_loop().time()
        self.renewed_at = self.alive_at
        self._returns_credits = prefetch > 0
        self._prefetch = prefetch
        self._claims_along = claims_along
        """Whether a claim may share the transaction of the acknowledgements that make room for it."""
        self._expect_credits = expect_credits
        self._demand_changed = demand_changed
        self._give_back = give_back
        self._left = left
        self._confirm = confirm
        self._is_confirmed = not hello.resumed
        self._held: dict[int, int] = dict(hello.held)
        """The fence of each job that is held here, sent or not."""
        self._early: dict[tuple[int, int], RevokeReason | None] = {}
        """Jobs that were taken away before the claim that brings them was heard of."""
        self._claims = 0
        self._is_paused = False
        self._claims_ended = asyncio.Event()
        self._stops = 0
        self._acknowledging = False
        self._closed = False
        self._replaced = False
        self._drained = False
        self._events: list[Event] = []
        self._unsent_characters = 0
        self._arrived = asyncio.Event()

    @property
    def wanted(self) -> int:
        """How many jobs to claim now: none while much is waiting to be sent, whatever the credit."""
        if self._is_paused or self._unsent_characters >= _MAX_UNSENT_CHARACTERS:
            return 0
        return max(min(self._credits, MAX_STREAM_CLAIM, MAX_HELD - len(self._held)), 0)

    @property
    def is_impatient(self) -> bool:
        """A stream waits."""
        return False

    @property
    def returns(self) -> bool:
        """Whether acknowledgements are on their way that will free credits."""
        return (
            self._acknowledging
            and self._returns_credits
            and not self._is_paused
            and self._unsent_characters < _MAX_UNSENT_CHARACTERS
        )

    @property
    def holds_jobs(self) -> bool:
        """Whether a job is held here."""
        return bool(self._held)

    @property
    def held_jobs(self) -> int:
        """How many jobs are held here."""
        return len(self._held)

    @property
    def held(self) -> list[tuple[int, int]]:
        """The id and the fence of each job that is held here."""
        return [*self._held.items()]

    @property
    def open_credits(self) -> int:
        """How many jobs more the subscriber would take."""
        return self._credits

    # What the subscriber does.

    async def next(self) -> list[Event]:
        """Wait for events and return all there are, in the order in which they must be sent."""
        while not self._events or self._replaced:
            if self._replaced:
                raise SubscriptionReplaced
            if self._closed:
                raise SubscriptionClosed
            self._arrived.clear()
            await self._arrived.wait()
        events, self._events = self._events, []
        if self._unsent_characters >= _MAX_UNSENT_CHARACTERS:
            self._demand_changed()
        self._unsent_characters = 0
        return events

    def request(self, credits: int) -> None:
        """Add credits, 10,000 open at most; resumes their return after a stop. Nothing follows a drain."""
        if self._drained or self._closed:
            return
        self._credits = min(self._credits + credits, MAX_OPEN_CREDITS)
        self._returns_credits = self._prefetch > 0
        self._demand_changed()

    def stop(self, reference: str | None = None) -> None:
        """Take all open credits and their return; what was not sent yet goes back. A reference is answered."""
        self._credits = 0
        self._returns_credits = False
        self._stops += 1
        unsent = self._take_unsent()
        if reference is not None:
            self._put(Stopped(reference))
        self._give_back(unsent)

    def acknowledging(self) -> None:
        """Hear that acknowledgements are about to be submitted: their transaction may claim what they make room for."""
        if self._returns_credits and self._claims_along:
            self._acknowledging = True
            self._expect_credits()

    def alive(self) -> None:
        """Note a sign of life."""
        self.alive_at = asyncio.get_running_loop().time()

    def confirm(self) -> None:
        """Hear that the client has spoken here: the token from before its resume is void."""
        if not self._is_confirmed:
            self._is_confirmed = True
            self._confirm(self)

    def confirm_failed(self) -> None:
        """Hear that the old token is still good: the client's next word confirms again."""
        self._is_confirmed = False

    async def close(self) -> None:
        """Leave the line; what was not sent goes back, what was sent stays leased."""
        if self._closed:
            return
        self._closed = True
        self._credits = 0
        self._arrived.set()
        await self._left(self, self._take_unsent())

    async def __aiter__(self) -> AsyncIterator[Job]:
        """Give jobs one by one, each asked for when it is wanted."""
        wanted = False
        while True:
            if not wanted:
                self.request(1)
            wanted = True
            for event in await self.next():
                if isinstance(event, Job):
                    yield event
                    wanted = False

    # What the dispatcher and the registry do.

    def reserve(self, credits: int) -> int:
        """Set credits aside for a claim; the token tells whether a stop came since."""
        self._credits -= credits
        self._claims += 1
        self._acknowledging = False
        return self._stops

    def give(self, jobs: Sequence[Job], *, reserved: int, token: int) -> Sequence[Job]:
        """Take claimed jobs, unless the subscriber left or stopped since; return those it cannot take."""
        self._claims -= 1
        early = self._early
        if not self._claims:
            self._early = {}
            self._claims_ended.set()
        if self._closed or token != self._stops:
            return jobs
        room = self._credits + reserved
        leftovers, jobs = jobs[room:], jobs[:room]
        taken = [job for job in jobs if (job.id, job.fence) not in early] if early else jobs
        self._credits = min(room - len(taken), MAX_OPEN_CREDITS)
        if taken:
            self._held.update((job.id, job.fence) for job in taken)
            self._put(*taken)
            self._unsent_characters += sum(len(job.data) + len(job.metadata) for job in taken)
        return leftovers

    def hear_no_more_is_due(self) -> None:
        """Go on waiting."""

    def refuse(self, error: Exception, *, reserved: int, token: int) -> None:  # noqa: ARG002
        """Have the credits of a failed claim back."""
        self.give((), reserved=reserved, token=token)

    def settled(self, settlement: Settlement) -> bool:
        """Hear that a job is no longer held here; its credit is free. Return whether there is new demand."""
        job_id, fence, reason = settlement.job_id, settlement.fence, settlement.reason
        if self._held.get(job_id) != fence:
            if self._claims:
                self._early[job_id, fence] = reason
            return False
        del self._held[job_id]
        was_dropped = reason is not None and self._drop_unsent(job_id, fence)
        if reason is not None and not was_dropped:
            self._put(Revoke(job_id, fence, reason))
        if self._closed or not (self._returns_credits or was_dropped):
            return False
        self._credits = min(self._credits + 1, MAX_OPEN_CREDITS)
        return True

    async def pause(self) -> None:
        """Want nothing until :meth:`go_on`; return once no claim is under way: what is held only gets less then."""
        self._is_paused = True
        while self._claims:
            self._claims_ended.clear()
            await self._claims_ended.wait()

    def go_on(self) -> None:
        """Want jobs again, as far as there is credit."""
        self._is_paused = False
        self._demand_changed()

    def replace(self) -> None:
        """Hear that the session goes on at another connection, with all jobs; those not sent here go back."""
        self._closed = self._replaced = True
        self._credits = 0
        self._give_back(self._take_unsent())
        self._arrived.set()

    def drain(self) -> None:
        """Tell the subscriber that no more jobs come here; what was not sent goes back."""
        self._drained = True
        self._credits = 0
        self._returns_credits = False
        self._stops += 1
        unsent = self._take_unsent()
        self._put(Drain())
        self._give_back(unsent)

    def _put(self, *events: Event) -> None:
        self._events.extend(events)
        self._arrived.set()

    def _take_unsent(self) -> list[Job]:
        """Remove the jobs that were never handed to the subscriber."""
        # No JSON text is empty: without characters there is no job, and a flood of stops looks through nothing.
        if not self._unsent_characters:
            return []
        unsent = [event for event in self._events if isinstance(event, Job)]
        self._unsent_characters = 0
        self._events = [event for event in self._events if not isinstance(event, Job)]
        for job in unsent:
            self._held.pop(job.id, None)
        return unsent

    def _drop_unsent(self, job_id: int, fence: int) -> bool:
        """Remove a job that was revoked before it was sent; a revoke never comes without its job."""
        for index, event in enumerate(self._events):
            if isinstance(event, Job) and event.id == job_id and event.fence == fence:
                del self._events[index]
                self._unsent_characters -= len(event.data) + len(event.metadata)
                return True
        return False
