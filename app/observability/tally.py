"""Numbers collected apart from the meter, to be told to it when they have become true."""

from typing import TypeAlias

from msgspec import Struct

from .metrics import Metric

Series: TypeAlias = tuple[Metric, tuple[str, ...]]
"""A metric with the values of its labels."""


class Tally(Struct):
    """What one transaction did, in numbers: told once for many jobs, and only if it was committed."""

    counts: dict[Series, int] = {}
    writes: int = 0
    commit_microseconds: int = 0

    def count(self, metric: Metric, *labels: str, by: int = 1) -> None:
        """Count up."""
        series = metric, labels
        self.counts[series] = self.counts.get(series, 0) + by
