"""The metrics as text for Prometheus."""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import TypeVar

from msgspec import Struct
from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from .distribution import Buckets
from .metrics import EXECUTOR, METRICS, Kind, Metric
from .tally import Series

Value = TypeVar("Value")


class Snapshot(Struct, frozen=True):
    """All numbers at one moment; nobody changes them any more."""

    executors: tuple[str, ...]
    """Those with a label of their own."""
    gauges: Mapping[Series, float]
    counts: Mapping[Series, int]
    buckets: Mapping[Series, Buckets]


def render(snapshot: Snapshot) -> bytes:
    """Return the page. Takes tens of milliseconds with many executors: not for the event loop."""
    return generate_latest(_Families(snapshot))


class _Families(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Family]:
        for metric in METRICS:
            yield _family(metric, self._snapshot)


def _family(metric: Metric, snapshot: Snapshot) -> Family:
    names = [label.name for label in metric.labels]
    match metric.kind:
        case Kind.COUNTER:
            counter = CounterMetricFamily(metric.name, metric.meaning, labels=names)
            for labels, count in (_zeros(metric, snapshot.executors) | _of(metric, snapshot.counts)).items():
                counter.add_metric(labels, count)
            return counter
        case Kind.GAUGE:
            gauge = GaugeMetricFamily(metric.name, metric.meaning, labels=names)
            for labels, value in _of(metric, snapshot.gauges).items():
                gauge.add_metric(labels, value)
            return gauge
        case Kind.HISTOGRAM:
            histogram = HistogramMetricFamily(metric.name, metric.meaning, labels=names)
            for labels, buckets in _of(metric, snapshot.buckets).items():
                histogram.add_metric(labels, buckets.up_to, buckets.total)
            return histogram


def _zeros(metric: Metric, executors: tuple[str, ...]) -> dict[tuple[str, ...], int]:
    """Return zero for each series that is known before it counts: a rate would miss its first step."""
    values = [executors if label is EXECUTOR else label.values for label in metric.labels]
    return dict.fromkeys(product(*values), 0)


def _of(metric: Metric, values: Mapping[Series, Value]) -> dict[tuple[str, ...], Value]:
    return {labels: value for (of, labels), value in values.items() if of is metric}
