"""`rexecutor metrics`: the reference of all metrics, made from the table that gives them."""

from ..observability.metrics import METRICS, Metric

_HEAD = "| metric | type | labels | meaning |\n| --- | --- | --- | --- |"


def render() -> str:
    """Return the reference as a Markdown table."""
    return "\n".join([_HEAD, *map(_row, METRICS)]) + "\n"


def show() -> int:
    """Print the reference; return the exit status."""
    print(render(), end="")
    return 0


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label.name}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.meaning} |"
