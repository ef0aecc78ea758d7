"""Many numbers to few: percentiles, medians, spreads."""

from collections.abc import Sequence
from statistics import median

from msgspec import Struct


class Summary(Struct, frozen=True):
    """The median of a series, and its extremes."""

    median: float
    least: float
    most: float


def summarise(numbers: Sequence[float]) -> Summary:
    """Return the summary of a series that is not empty."""
    return Summary(median(numbers), min(numbers), max(numbers))


def percentile(numbers: Sequence[float], percent: int) -> float:
    """Return the number that ``percent`` of all do not exceed."""
    ordered = sorted(numbers)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def median_ratio(numbers: Sequence[float], compared: Sequence[float]) -> float | None:
    """Return the median of the ratios round by round: what disturbs one round disturbs both of its sides."""
    ratios = [number / other for number, other in zip(numbers, compared, strict=False) if other]
    return median(ratios) if ratios else None
