"""How a worker's slots are shared among its executors: what one has no use for, others may use."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

_ROUND_SECONDS = 0.25
"""So long a line must have been full before others are asked for slots; and so seldom they are."""

_log = logging.getLogger("rexecutor")


class Sharer(Protocol):
    """Who has a part of the slots: a line."""

    @property
    def most(self) -> int:
        """How many slots it can use."""

    @property
    def window(self) -> int:
        """How many it has: the jobs that it executes and has asked for are no more, once it has been narrowed to it."""

    @property
    def executing(self) -> int:
        """How many jobs it executes."""

    @property
    def used(self) -> int:
        """How many slots are taken, by jobs or by credits; for a while after narrowing more than its window."""

    def widen(self, window: int) -> None:
        """Take more slots."""

    async def narrow(self, window: int) -> None:
        """Give slots back; those that are taken follow once they have become free."""


class Slots:
    """Shares slots evenly until a line is full, then lends it what others leave free."""

    def __init__(self, slots: int) -> None:
        """Share so many."""
        self._slots = slots
        self._full: set[Sharer] = set()
        self._somebody_is_full = asyncio.Event()

    def note_full(self, line: Sharer) -> None:
        """Hear that a line would start more jobs if it had more slots."""
        self._full.add(line)
        self._somebody_is_full.set()

    async def share(self, lines: Sequence[Sharer]) -> None:
        """Go on sharing, for as long as the worker works."""
        even = shares([line.most for line in lines], self._slots)
        while len(lines) > 1:
            await self._somebody_is_full.wait()
            await asyncio.sleep(_ROUND_SECONDS)
            full = self._full
            # Whoever stays full asks again: others may have become idle meanwhile.
            self._full = {line for line in full if line.executing >= line.window}
            if not self._full:
                self._somebody_is_full.clear()
            needs = [line.most if line in full else min(line.executing + 1, line.most) for line in lines]
            try:
                await self._hand_over(lines, targets(needs, even, self._slots))
            except Exception:  # noqa: BLE001 - the next round is another try
                _log.exception("slots were not shared")

    async def _hand_over(self, lines: Sequence[Sharer], windows: Sequence[int]) -> None:
        wanted = [*zip(lines, windows, strict=True)]
        await asyncio.gather(*(line.narrow(window) for line, window in wanted if window < line.window))
        free = self._slots - sum(max(line.window, line.used) for line in lines)
        for line, window in wanted:
            more = min(window - line.window, free)
            if more > 0:
                line.widen(line.window + more)
                free -= more


def shares(limits: Sequence[int], slots: int) -> list[int]:
    """Divide the slots: as evenly as the limits allow, and one for each at least."""
    return _filled([1] * len(limits), limits, slots)


def targets(needs: Sequence[int], even: Sequence[int], slots: int) -> list[int]:
    """Return the windows of lines that need so many: up to its even share each gets what it needs, and then more.

    What nobody needs stays where it is evenly shared.
    """
    first = [min(need, share) for need, share in zip(needs, even, strict=True)]
    second = _filled(first, needs, slots)
    return _filled(second, [max(share, window) for share, window in zip(even, second, strict=True)], slots)


def _filled(given: Sequence[int], limits: Sequence[int], slots: int) -> list[int]:
    """Deal out what is left one by one, to those below their limits."""
    filled = [*given]
    left = slots - sum(filled)
    while left > 0 and (below := [n for n, limit in enumerate(limits) if filled[n] < limit]):
        for n in below[:left]:
            filled[n] += 1
        left -= min(left, len(below))
    return filled
