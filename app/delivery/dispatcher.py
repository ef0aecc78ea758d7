"""One loop an executor: wait, claim what there is credit for, hand out, give back what nobody takes any more."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from msgspec import Struct

from ..domain.instant import Instant
from ..domain.job import Job
from ..observability.logging import get_logger
from ..observability.loops import GuardedLoop, LoopEnded
from ..observability.meter import Meter
from ..store.claim import MAX_JOBS_A_CLAIM, ClaimCall, Claimed, Demand
from ..store.dialects.base import Dialect
from .place import Place
from .wakeup import Wakeup

_MAX_AHEAD = 2
"""Claims on their way: one is written, and one waits for the writer."""
_SPARED = 1 / 3
"""Of the credits, where one job is expected: for the next, which may come before this one is handed out."""

_log = get_logger()


class _Claim(Struct):
    """A claim on its way."""

    claimed: asyncio.Future[list[Claimed]]
    reserved: list[tuple[Place, int, int]]
    """Each place in line with the credits that it set aside, and its token."""
    impatient: tuple[Place, ...]


class Dispatcher:
    """Hands out an executor's ready jobs, best first, to the place that has gone longest without one."""

    def __init__(
        self,
        executor: str,
        dialect: Dialect,
        *,
        meter: Meter,
        fallback_seconds: float,
        give_back: Callable[[Sequence[Job]], None],
        emptied: Callable[[], object],
    ) -> None:
        """Serve one executor; it sleeps for ``fallback_seconds`` at most while there is demand.

        The loop ends when nobody stands in line, and calls ``emptied`` in the same turn.
        """
        self.executor = executor
        self.loop = GuardedLoop(f"dispatcher:{executor}", self._round)
        self._dialect = dialect
        self._meter = meter
        self._give_back = give_back
        self._emptied = emptied
        self._wakeup = Wakeup(dialect.now, fallback_seconds)
        self._line: deque[Place] = deque()
        """Who has gone longest without a job stands first."""
        self._impatient: set[Place] = set()
        """Those in line who leave as soon as no job is due."""
        self._ahead: deque[_Claim] = deque()
        self._flows = False
        """Whether the last claim brought a job for each credit."""
        self._waits_for_jobs = False
        """Whether it sleeps because no job is due."""
        self._has_new_demand = False
        """Whether demand has changed since it was last added up."""

    def join(self, place: Place) -> None:
        """Let a place stand at the end of the line."""
        self._line.append(place)
        if place.is_impatient:
            self._impatient.add(place)
        self._wakeup.wake()

    def leave(self, place: Place) -> None:
        """Take a place out of the line."""
        if place in self._line:
            self._line.remove(place)
        self._impatient.discard(place)
        self._wakeup.wake()

    def close(self) -> None:
        """Send everybody away; the loop ends after the claims that are under way."""
        self._line.clear()
        self._wakeup.wake()

    def wake_at(self, instant: Instant) -> None:
        """Hear that a job waits for this instant: a hint, which may be wrong or lost."""
        self._wakeup.wake_at(instant)

    def expect(self) -> None:
        """Hear that a due job is about to be submitted, and submit a claim for it, to share its transaction.

        Also while another claim is being written, which does not see that job; but where several stand in line, only
        the outcome of that claim tells whose turn it is.
        """
        if self._ahead and (self._flows or len(self._line) > 1):
            return
        if self._claim_ahead(spare=_SPARED) and self._wakeup.sleeps:
            self._wakeup.wake()

    def expect_credits(self) -> None:
        """Hear that acknowledgements are about to be submitted, and submit a claim for what they make room for.

        Where jobs flow that is done in this very turn: as a rule the two then share a transaction.
        """
        if not self._waits_for_jobs and (self._flows or not self._ahead):
            self._claim_ahead()
        self.demand_changed()

    def demand_changed(self) -> None:
        """Hear that somebody in line may want more jobs; while none is due it makes no difference."""
        self._has_new_demand = True
        if self._wakeup.sleeps and not self._waits_for_jobs:
            self._wakeup.wake()

    async def _round(self) -> None:
        if not self._line and not self._ahead:
            self._emptied()
            raise LoopEnded
        if self._ahead and not self._flows:
            await self._hand_out_next()
            return
        if self._claim_ahead() and self._flows and len(self._ahead) < _MAX_AHEAD:
            # Where jobs flow, the next claim waits for the writer while this one is written.
            return
        if self._ahead:
            await self._hand_out_next()
        else:
            await self._wakeup.sleep(None)

    def _claim_ahead(self, *, spare: float = 0) -> bool:
        """Submit a claim for the credits in line but a part to spare.

        Return whether there are any, and no claim is in the way of this one.
        """
        # A claim that is done, but not handed out, has spent credits that are still open here.
        if len(self._ahead) == _MAX_AHEAD or any(claim.claimed.done() for claim in self._ahead):
            return False
        demands, reserved = self._reserve(spare)
        if demands:
            claimed = self._dialect.claim([ClaimCall(self.executor, demands)])
            self._ahead.append(_Claim(claimed, reserved, tuple(self._impatient)))
        return bool(demands)

    async def _hand_out_next(self) -> None:
        """Wait for the claim that was made first, hand out what it brings, and sleep if no more is to be had."""
        claim = self._ahead[0]
        try:
            (claimed,) = await claim.claimed
        except Exception as error:
            self._flows = False
            for place, credits, token in claim.reserved:
                place.refuse(error, reserved=credits, token=token)
            raise
        finally:
            self._ahead.popleft()
        self._flows = claimed.was_enough
        self._hand_out(claimed.jobs, claim.reserved)
        if claimed.was_all:
            for place in claim.impatient:
                place.hear_no_more_is_due()
        if claimed.was_enough or self._ahead:
            if claimed.next_due_at is not None:
                # What comes after it may have wanted nothing, and then knows nothing of this job.
                self._wakeup.wake_at(claimed.next_due_at)
            return
        if claimed.was_all or not self._has_new_demand:
            self._waits_for_jobs = claimed.was_all
            try:
                await self._wakeup.sleep(claimed.next_due_at)
            finally:
                self._waits_for_jobs = False

    def _reserve(self, spare: float) -> tuple[list[Demand], list[tuple[Place, int, int]]]:
        """Set aside the credits of the line for one claim."""
        self._has_new_demand = False
        room = MAX_JOBS_A_CLAIM
        demands: list[Demand] = []
        reserved: list[tuple[Place, int, int]] = []
        for place in self._line:
            wanted = place.wanted
            credits, returns = min(wanted - int(wanted * spare), room), place.returns
            if credits > 0 or returns:
                room -= credits
                demands.append(Demand(place.lease, place.worker, credits, returns))
                reserved.append((place, credits, place.reserve(credits)))
            if not room:
                break
        return demands, reserved

    def _hand_out(self, hands: Sequence[Sequence[Job]], reserved: Sequence[tuple[Place, int, int]]) -> None:
        served: list[tuple[int, Place]] = []
        now = self._dialect.now()
        for jobs, (place, credits, token) in zip(hands, reserved, strict=True):
            leftovers = place.give(jobs, reserved=credits, token=token)
            self._meter.handed_out(jobs[: len(jobs) - len(leftovers)] if leftovers else jobs, now)
            if leftovers:
                _log.info("jobs.given_back", executor=self.executor, count=len(leftovers))
                self._give_back(leftovers)
            if len(leftovers) < len(jobs) and place in self._line:
                served.append((len(jobs), place))
        # They were dealt in turn: whoever got fewer has gone longer without one.
        for _, place in sorted(served, key=lambda each: each[0]):
            self._line.remove(place)
            self._line.append(place)
