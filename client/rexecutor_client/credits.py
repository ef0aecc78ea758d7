"""The credits of a line: it asks for as many jobs as its window leaves free, together with its word on the last."""

import asyncio
from contextlib import suppress

from .errors import RexecutorError
from .running import RunningJobs
from .subscription import Subscription

_STOP_SECONDS = 5.0


class Credits:
    """Keeps the jobs that are executed and those that are asked for within a window, over one subscription at a time.

    Each job takes a credit and brings none back (the stream's ``prefetch`` is 0), so that it is known here how many are
    open, and a window can be made smaller.
    """

    def __init__(self, window: int) -> None:
        """Begin with nothing asked for."""
        self.window = window
        self._jobs: RunningJobs
        self._subscription: Subscription | None = None
        self._open = 0
        self._is_paused = False
        self._is_stopped = False
        self._has_taken_back = False
        self._will_ask = False

    def count(self, jobs: RunningJobs) -> None:
        """Count these jobs."""
        self._jobs = jobs

    @property
    def used(self) -> int:
        """How much of the window is taken; of jobs on which the service has not answered yet one window is free."""
        unanswered = len(self._jobs) - self._jobs.executing
        return self._jobs.executing + max(0, unanswered - self.window) + self._open

    def go_over(self, subscription: Subscription) -> None:
        """Ask over this subscription, which has no credits yet."""
        self._subscription = subscription
        self._open = 0
        self._ask()

    def lose(self) -> None:
        """Ask no more: the subscription is lost, or its server leaves."""
        self._subscription = None
        self._open = 0

    def take(self) -> None:
        """Note that a job came for one of the credits."""
        self._open = max(0, self._open - 1)

    def ask_soon(self) -> None:
        """Ask for what there is room for, once for all that happens in this turn of the event loop."""
        if not self._will_ask:
            self._will_ask = True
            asyncio.get_running_loop().call_soon(self._ask)

    async def narrow(self, window: int) -> None:
        """Make the window smaller, and take back the credits that do not fit."""
        self.window = window
        if self._open and self.used > window:
            self._is_paused = True
            try:
                await self._take_back()
            finally:
                self._is_paused = False
            self._ask()

    async def stop(self) -> None:
        """Ask for nothing any more, and take all credits back; whatever came before has been taken on return."""
        self._is_stopped = True
        if not self._has_taken_back:
            await self._take_back()
            self._has_taken_back = True

    async def _take_back(self) -> None:
        subscription = self._subscription
        if subscription is None or not subscription.is_open:
            return
        with suppress(RexecutorError):
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await subscription.stop()
                    while subscription.has_unread:  # noqa: ASYNC110
                        # Whoever reads them has been woken.
                        await asyncio.sleep(0)
            except TimeoutError:
                # What is open is not known any more; of a new connection it is.
                subscription.abort()
                return
            if self._subscription is subscription:
                self._open = 0

    def _ask(self) -> None:
        self._will_ask = False
        more = self.window - self.used
        if more > 0 and self._subscription is not None and not (self._is_paused or self._is_stopped):
            self._open += more
            self._subscription.request(more)
