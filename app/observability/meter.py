"""All that a server counted since it started."""

from collections.abc import Iterable, Sequence

from ..domain.instant import Instant
from ..domain.job import Job
from .distribution import Distribution
from .exposition import Snapshot
from .metrics import (
    COMMIT_SECONDS,
    COMMIT_WRITES,
    EXECUTOR,
    HTTP_REQUESTS,
    HTTP_SECONDS,
    LATENESS,
    OLDEST_READY,
    PICKUP,
    Metric,
)
from .tally import Series, Tally

MAX_EXECUTORS = 200
"""So many executors have a label of their own."""
OTHER = "other"
_MICROSECONDS = 1_000_000
_MANY = 256
"""So much is put aside before it is added up."""


class ExecutorLabels:
    """Gives the first executors their names as labels for good, and all others ``other``."""

    def __init__(self) -> None:
        """Begin with none."""
        self._named: dict[str, str] = {}

    @property
    def named(self) -> Sequence[str]:
        """Those with a label of their own."""
        return list(self._named)

    @property
    def room(self) -> int:
        """For how many more there is one."""
        return MAX_EXECUTORS - len(self._named)

    def label(self, executor: str) -> str:
        """Return the executor's label, its own while there is room."""
        label = self._named.get(executor)
        if label is None:
            if self.room <= 0:
                return OTHER
            label = self._named[executor] = executor
        return label


class Meter:
    """Counts on the event loop only, so that nothing is locked; durations come in microseconds, as instants do.

    What comes with each request and each commit is put aside and added up by the hundred: one at a time, between other
    work that takes the processor's caches, the same steps took half as long again.
    """

    def __init__(self) -> None:
        """Begin at zero."""
        self._executors = ExecutorLabels()
        self._counts: dict[Series, int] = {}
        self._answers: dict[tuple[str, int], int] = {}
        self._new_answers: list[tuple[str, int, int | None]] = []
        self._new_tallies: list[Tally] = []
        self._distributions: dict[Series, Distribution] = {}
        self._pickup = self._distribution(PICKUP)
        self._lateness = self._distribution(LATENESS)
        self._commit_writes = self._distribution(COMMIT_WRITES)
        self._commit_seconds = self._distribution(COMMIT_SECONDS)

    @property
    def executors(self) -> ExecutorLabels:
        """The labels, given first to the executors that were counted."""
        self._add_tallies()
        return self._executors

    def committed(self, tally: Tally) -> None:
        """Add what a transaction did, once it is durable."""
        self._new_tallies.append(tally)
        if len(self._new_tallies) >= _MANY or len(tally.counts) >= _MANY:
            self._add_tallies()

    def handed_out(self, jobs: Sequence[Job], now: Instant) -> None:
        """Observe how long jobs waited that a worker takes now."""
        picked_up = [now - job.inserted_at for job in jobs if job.fence == 1 and job.scheduled_at <= job.inserted_at]
        if len(picked_up) < len(jobs):
            late = [now - job.scheduled_at for job in jobs if job.fence != 1 or job.scheduled_at > job.inserted_at]
            self._lateness.observe_all(late)
        self._pickup.observe_all(picked_up)

    def answered(self, operation: str, status: int, microseconds: int | None) -> None:
        """Count a request's answer, and how long it took unless that is None."""
        self._new_answers.append((operation, status, microseconds))
        if len(self._new_answers) >= _MANY:
            self._add_answers()

    def snapshot(self, readings: Iterable[tuple[Series, float]]) -> Snapshot:
        """Return all numbers, with gauges that were just read; those under one label are added up."""
        executors = self.executors
        self._add_answers()
        gauges: dict[Series, float] = {}
        for reading, value in readings:
            series = self._bounded(reading)
            before = gauges.get(series, 0)
            gauges[series] = max(before, value) if series[0] is OLDEST_READY else before + value
        answers: dict[Series, int] = {
            (HTTP_REQUESTS, (operation, str(status))): count for (operation, status), count in self._answers.items()
        }
        return Snapshot(
            executors=tuple(executors.named),
            gauges=gauges,
            counts=self._counts | answers,
            buckets={series: distribution.buckets() for series, distribution in self._distributions.items()},
        )

    def _add_tallies(self) -> None:
        tallies, self._new_tallies = self._new_tallies, []
        self._commit_writes.observe_all([tally.writes for tally in tallies])
        self._commit_seconds.observe_all([tally.commit_microseconds for tally in tallies])
        for tally in tallies:
            for series, count in tally.counts.items():
                bounded = self._bounded(series)
                self._counts[bounded] = self._counts.get(bounded, 0) + count

    def _add_answers(self) -> None:
        answers, self._new_answers = self._new_answers, []
        took: dict[str, list[int]] = {}
        for operation, status, microseconds in answers:
            answer = operation, status
            self._answers[answer] = self._answers.get(answer, 0) + 1
            if microseconds is not None:
                took.setdefault(operation, []).append(microseconds)
        for operation, values in took.items():
            series = HTTP_SECONDS, (operation,)
            distribution = self._distributions.get(series) or self._distribution(HTTP_SECONDS, operation)
            distribution.observe_all(values)

    def _bounded(self, series: Series) -> Series:
        """Return the series with the label that its executor has."""
        metric, labels = series
        if not labels or metric.labels[0] is not EXECUTOR:
            return series
        executor = self._executors.label(labels[0])
        return series if executor == labels[0] else (metric, (executor, *labels[1:]))

    def _distribution(self, metric: Metric, *labels: str) -> Distribution:
        per_unit = _MICROSECONDS if metric.name.endswith("_seconds") else 1
        distribution = self._distributions[metric, labels] = Distribution(metric.bounds, per_unit=per_unit)
        return distribution
