"""A histogram's numbers, cheap enough for the hot path."""

from bisect import bisect_left, bisect_right
from itertools import accumulate

from msgspec import Struct

_FEW = 4


class Buckets(Struct, frozen=True):
    """A distribution at one moment."""

    up_to: list[tuple[str, int]]
    """Each bucket's upper bound with the number of values up to it."""
    total: float


class Distribution:
    """How often a value fell into which bucket. Values are whole numbers of a unit, ``per_unit`` to the bounds' one.

    Our own, since 1.1 µs for an observation of prometheus_client, which locks, is a tenth of what a job takes to be
    delivered; here it takes 0.2, and 0.03 in lists of hundreds.
    """

    __slots__ = ("_bounds", "_counts", "_per_unit", "_shown_bounds", "_total")

    def __init__(self, bounds: tuple[float, ...], *, per_unit: int = 1) -> None:
        """Begin empty."""
        self._shown_bounds = bounds
        self._per_unit = per_unit
        self._bounds = [bound * per_unit for bound in bounds]
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0

    def observe(self, value: int) -> None:
        """Take a value in."""
        # A clock that was set back must not make a sum go down.
        value = max(value, 0)
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def observe_all(self, values: list[int]) -> None:
        """Take many values in, which are sorted on the way: then each bucket is searched for, not each value."""
        if len(values) < _FEW:
            for value in values:
                self.observe(value)
            return
        values.sort()
        if values[0] < 0:
            values = [max(value, 0) for value in values]
        below = 0
        for index, bound in enumerate(self._bounds):
            up_to = bisect_right(values, bound, below)
            self._counts[index] += up_to - below
            below = up_to
            if below == len(values):
                break
        self._counts[-1] += len(values) - below
        self._total += sum(values)

    def buckets(self) -> Buckets:
        """Return what there is, in the bounds' unit."""
        names = [*(str(float(bound)) for bound in self._shown_bounds), "+Inf"]
        up_to = list(zip(names, accumulate(self._counts), strict=True))
        return Buckets(up_to, self._total / self._per_unit)
