"""One loop an executor: wait, claim what there is credit for, hand out, give back what nobody takes any more."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct

from ..domain.instant import Instant
from ..domain.job import Job
from ..observability.logging import get_logger
from ..observability.loops import GuardedLoop, LoopEnded
from ..observability.meter import Meter
from ..store.claim import ClaimCall, Claimed, Demand
from ..store.dialects.base import Dialect
from .place import Place
from .wakeup import Wakeup

MAX_JOBS_A_CLAIM = 1_000
"""Bounds a claim's transaction, in which others wait."""

_MAX_AHEAD = 2
"""Claims on their way where there are more jobs than credits: while one is written, the next waits for the writer."""

_log = get_logger()


class _Claim(Struct):
    """A claim on its way."""

    claimed: Awaitable[Claimed]
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

    def join(self, place: Place) -> None:
        """Let a place stand at the end of the line."""
        self._line.append(place)
        if place.is_impatient:
            self._impatient.add(place)
        self.demand_changed()

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

    def expect(self) -> bool:
        """Hear that a due job is about to be submitted; return whether it will be claimed in its own transaction."""
        if not self._wakeup.sleeps or not any(place.wanted for place in self._line):
            return False
        self._wakeup.wake()
        return True

    def demand_changed(self) -> None:
        """Hear that somebody may want jobs."""
        self._wakeup.wake()

    async def _round(self) -> None:
        if not self._line and not self._ahead:
            self._emptied()
            raise LoopEnded
        if self._ahead and not self._flows:
            await self._hand_out_next()
            return
        demands, reserved = self._reserve()
        if demands:
            claim = self._dialect.claim(ClaimCall(self.executor, demands))
            # Where jobs flow a task each, since two are on their way. Else none: it would come a turn too late for the
            # transaction of an insert that is expected.
            self._ahead.append(
                _Claim(asyncio.create_task(claim) if self._flows else claim, reserved, tuple(self._impatient))
            )
            if self._flows and len(self._ahead) < _MAX_AHEAD:
                return
        if self._ahead:
            await self._hand_out_next()
        else:
            await self._wakeup.sleep(None)

    async def _hand_out_next(self) -> None:
        """Wait for the claim that was made first, hand out what it brings, and sleep if no more is to be had."""
        claim = self._ahead.popleft()
        try:
            claimed = await claim.claimed
        except Exception as error:
            self._flows = False
            for place, credits, token in claim.reserved:
                place.refuse(error, reserved=credits, token=token)
            raise
        self._flows = claimed.was_enough
        self._hand_out(claimed.jobs, claim.reserved)
        if claimed.was_all:
            for place in claim.impatient:
                place.hear_no_more_is_due()
        if not claimed.was_enough and not self._ahead:
            await self._wakeup.sleep(claimed.next_due_at)

    def _reserve(self) -> tuple[list[Demand], list[tuple[Place, int, int]]]:
        """Set aside the credits of the line for one claim."""
        room = MAX_JOBS_A_CLAIM
        demands: list[Demand] = []
        reserved: list[tuple[Place, int, int]] = []
        for place in self._line:
            credits, returns = min(place.wanted, room), place.returns
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
