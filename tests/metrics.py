"""The page of metrics as Prometheus reads it."""

from collections.abc import Iterator

import httpx2
from prometheus_client.parser import text_string_to_metric_families


class Page:
    """One scrape."""

    def __init__(self, text: str) -> None:
        self.values: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for family in text_string_to_metric_families(text):
            assert family.documentation, family.name
            for sample in family.samples:
                series = sample.name, frozenset(sample.labels.items())
                assert series not in self.values
                self.values[series] = sample.value

    def value(self, name: str, **labels: str) -> float | None:
        """One series' value; None where it is absent."""
        return self.values.get((f"rexecutor_{name}", frozenset(labels.items())))

    def by(self, label: str, name: str, **labels: str) -> dict[str, float]:
        """The values of a metric that are not zero, by one label, given the others."""
        return {
            dict(series)[label]: value
            for (of, series), value in self.values.items()
            if of == f"rexecutor_{name}" and labels.items() <= dict(series).items() and value
        }

    def labels(self, label: str) -> Iterator[str]:
        """Every value of a label, in all metrics."""
        for _, series in self.values:
            if label in dict(series):
                yield dict(series)[label]


async def scrape(http: httpx2.AsyncClient) -> Page:
    answer = await http.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return Page(answer.text)
