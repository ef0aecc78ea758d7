"""Pauses between attempts that failed."""

import asyncio
import random

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 5.0
_LONGEST_ASKED_SECONDS = 60.0


class Pauses:
    """Twice as long each time, up to five seconds, and spread so that many workers do not come at once."""

    def __init__(self) -> None:
        """Begin with the first."""
        self._next = FIRST_SECONDS

    def begin_again(self) -> None:
        """Begin with the first again: something went well."""
        self._next = FIRST_SECONDS

    async def wait(self, *, asked: float | None = None) -> None:
        """Wait; not less than the service asked for, as long as that is no more than a minute."""
        pause, self._next = self._next, min(self._next * 2, LONGEST_SECONDS)
        spread = random.uniform(0.7, 1.3)  # noqa: S311 - no secret
        await asyncio.sleep(max(pause * spread, min(asked or 0.0, _LONGEST_ASKED_SECONDS)))
