"""The metrics page is what `rexecutor metrics` prints, and its rules ask only for metrics that there are."""

import re
from pathlib import Path

from app.commands.metrics import render
from app.observability.metrics import METRICS, Kind

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")


def test_metrics_page_holds_the_table_of_the_code():
    assert render() in PAGE


def test_metrics_page_names_no_other_metric():
    suffixes = "(_bucket|_sum|_count)?"
    named = "|".join(rf"{metric.name}{suffixes if metric.kind is Kind.HISTOGRAM else ''}" for metric in METRICS)
    for name in re.findall(r"\brexecutor_\w+", PAGE):
        assert re.fullmatch(named, name), name


def test_names_follow_the_one_pattern():
    for metric in METRICS:
        assert re.fullmatch(r"rexecutor(_[a-z]+)+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
        assert bool(metric.bounds) == (metric.kind is Kind.HISTOGRAM)
        assert list(metric.bounds) == sorted(set(metric.bounds))
        assert "|" not in metric.meaning
    assert len({metric.name for metric in METRICS}) == len(METRICS)
