"""How long a job that failed waits for its next attempt."""

import random
from abc import abstractmethod
from datetime import timedelta

from msgspec import Struct

_LONGEST = timedelta(days=7)


class Backoff(Struct, frozen=True, kw_only=True):
    """A strategy: its delay, spread by ``jitter``, is never below ``min`` and never above ``max``."""

    jitter: float = 0.1
    """By which part of itself a delay may be shorter or longer, so that what failed together does not come together."""
    min: timedelta = timedelta(0)
    max: timedelta = _LONGEST

    def __post_init__(self) -> None:
        if not 0 <= self.jitter <= 1:
            raise ValueError("jitter must be from 0 to 1")
        if not timedelta(0) <= self.min <= self.max:
            raise ValueError("min must be from 0 to max")

    def delay(self, attempt: int) -> timedelta:
        """Return the pause after this attempt, the first being 1."""
        seconds = min(self._seconds(max(attempt, 1)), self.max.total_seconds())
        seconds *= random.uniform(1 - self.jitter, 1 + self.jitter)  # noqa: S311 - no secret
        return min(max(timedelta(seconds=seconds), self.min), self.max)

    @abstractmethod
    def _seconds(self, attempt: int) -> float:
        """Return the delay before it is spread and bounded."""


class Constant(Backoff, frozen=True, kw_only=True):
    """Always the same."""

    base: timedelta = timedelta(seconds=4)

    def _seconds(self, attempt: int) -> float:  # noqa: ARG002
        return self.base.total_seconds()


class Linear(Backoff, frozen=True, kw_only=True):
    """Longer by ``base`` each time."""

    base: timedelta = timedelta(seconds=4)

    def _seconds(self, attempt: int) -> float:
        return self.base.total_seconds() * attempt


class Polynomial(Backoff, frozen=True, kw_only=True):
    """``base`` times a power of the attempt."""

    base: timedelta = timedelta(seconds=4)
    exponent: float = 2.0

    def _seconds(self, attempt: int) -> float:
        return self.base.total_seconds() * _bounded_power(attempt, self.exponent)


class Exponential(Backoff, frozen=True, kw_only=True):
    """``base`` first, and ``factor`` times as long each time."""

    base: timedelta = timedelta(seconds=4)
    factor: float = 2.0

    def _seconds(self, attempt: int) -> float:
        return self.base.total_seconds() * _bounded_power(self.factor, attempt - 1)


DEFAULT = Exponential()
"""From 4 seconds to 7 days, doubling, give or take a tenth."""


def _bounded_power(base: float, exponent: float) -> float:
    try:
        return float(float(base) ** exponent)
    except OverflowError:
        return float("inf")
