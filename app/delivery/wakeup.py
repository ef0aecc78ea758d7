"""Sleep until an instant or until woken, never longer than the fallback."""

import asyncio
import math
from collections.abc import Callable

from ..domain.instant import Instant


class Wakeup:
    """An alarm for one sleeper; hints may come at any time and are kept until it sleeps next."""

    def __init__(self, now: Callable[[], Instant], fallback_seconds: float) -> None:
        """Tell instants by ``now``; ``fallback_seconds`` bounds each sleep, should a hint be lost."""
        self._now = now
        self._fallback_seconds = fallback_seconds
        self._event = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at: Instant | None = None
        self._sleeps = False

    @property
    def sleeps(self) -> bool:
        """Whether somebody sleeps here now."""
        return self._sleeps

    def wake(self) -> None:
        """End the sleep at once."""
        self._event.set()

    def wake_at(self, instant: Instant) -> None:
        """End the sleep, this one or the next, no later than this."""
        if self._rings_at is not None and self._rings_at <= instant:
            return
        self._rings_at = instant
        if self._sleeps:
            self._set_timer()

    async def sleep(self, until: Instant | None) -> None:
        """Sleep until woken, or until ``until`` by the clock, or for as long as the fallback says."""
        self.wake_at(self._now() + int(self._fallback_seconds * 1_000_000))
        if until is not None:
            self.wake_at(until)
        self._sleeps = True
        self._set_timer()
        try:
            await self._event.wait()
        finally:
            self._sleeps = False
            self._event.clear()
            self._cancel_timer()
            self._rings_at = None

    def _set_timer(self) -> None:
        self._cancel_timer()
        if self._rings_at is not None:
            # Rounded up to the loop's resolution of a millisecond: a timer that rings early would only sleep again.
            milliseconds = math.ceil(max(self._rings_at - self._now(), 0) / 1_000)
            self._timer = asyncio.get_running_loop().call_later(milliseconds / 1_000, self._event.set)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
