"""Long-lived loops that outlive the failure of a round: log, back off, go on."""

import asyncio
from collections.abc import Awaitable, Callable

from ..domain.errors import DatabaseUnavailable
from .logging import cause, get_logger

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0
_DEAD_AFTER_FAILURES = 3

_log = get_logger()


class LoopEnded(Exception):
    """Raised by a round when there is nothing left to do."""


class GuardedLoop:
    """Runs rounds for ever; one failed claim must not leave a service that answers 201 and delivers nothing."""

    def __init__(
        self,
        name: str,
        run_round: Callable[[], Awaitable[None]],
        *,
        longest_pause_seconds: float = _LONGEST_PAUSE_SECONDS,
    ) -> None:
        """Name a loop after what it does; ``run_round`` waits by itself for its time."""
        self.name = name
        self._round = run_round
        self._longest_pause_seconds = longest_pause_seconds
        self._failures = 0
        self._ended = False

    @property
    def is_dead(self) -> bool:
        """Whether the loop has ended, or fails time after time."""
        return self._ended or self._failures >= _DEAD_AFTER_FAILURES

    async def run(self) -> None:
        """Run rounds until one raises LoopEnded, or until cancelled."""
        try:
            while True:
                try:
                    await self._round()
                    self._failures = 0
                except LoopEnded:
                    return
                except Exception as error:  # noqa: BLE001 - whatever it is, the next round must come
                    self._failures += 1
                    self._tell(error)
                    await asyncio.sleep(
                        min(_FIRST_PAUSE_SECONDS * 2 ** min(self._failures - 1, 10), self._longest_pause_seconds)
                    )
        finally:
            self._ended = True

    def _tell(self, error: Exception) -> None:
        """Log a failure; a database that is away is no mistake of the loop's, and all loops tell of it."""
        is_away = isinstance(error, DatabaseUnavailable)
        tell = _log.warning if is_away else _log.error
        tell("loop.waits" if is_away else "loop.failed", loop=self.name, failures=self._failures, **cause(error))
