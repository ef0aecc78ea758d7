"""The table: each mark with the medians of its series, their spread, the ratio, and whether it is reached."""

import math
from collections.abc import Iterable, Sequence

from msgspec import Struct

from .figures.figure import Figure, Mark, Unit
from .figures.summary import Summary, median_ratio, summarise
from .rounds import Series

_HEAD = ("figure", "measured", "yardstick", "ratio", "must reach", "ok?")


class Row(Struct, frozen=True, kw_only=True):
    """One line of the table, as text; ``ok`` is None for what is only reported."""

    figure: str
    measured: str
    yardstick: str
    ratio: str
    must_reach: str
    ok: bool | None

    @property
    def cells(self) -> tuple[str, ...]:
        """What stands in the columns."""
        verdict = "" if self.ok is None else "yes" if self.ok else "NO"
        return (self.figure, self.measured, self.yardstick, self.ratio, self.must_reach, verdict)


def rows_of(figures: Iterable[Figure], series: Series) -> list[Row]:
    """Return the rows of all marks that were measured."""
    return [_row(mark, series) for figure in figures for mark in figure.marks if series.get(mark.measured)]


def as_text(rows: Sequence[Row]) -> str:
    """Return the table for a terminal."""
    lines = [_HEAD, *(row.cells for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def as_markdown(rows: Sequence[Row]) -> str:
    """Return the table for a page."""
    lines = [_HEAD, ("---",) * len(_HEAD), *(row.cells for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _row(mark: Mark, series: Series) -> Row:
    numbers = series[mark.measured]
    measured = summarise(numbers)
    compared = series.get(mark.yardstick or "")
    ratio = median_ratio(numbers, compared) if compared else None
    return Row(
        figure=mark.title,
        measured=_with_spread(measured, mark.unit),
        yardstick=f"{_value(summarise(compared).median, mark.unit)} {mark.yardstick_title}" if compared else "",
        ratio="" if ratio is None else f"{ratio:.2f}",
        must_reach=_must_reach(mark),
        ok=_is_reached(mark, measured.median, ratio),
    )


def _is_reached(mark: Mark, measured: float, ratio: float | None) -> bool | None:
    if mark.least is not None:
        return measured >= mark.least
    if mark.least_ratio is not None:
        return ratio is not None and ratio >= mark.least_ratio
    allowed = []
    if mark.most is not None:
        allowed.append(measured <= mark.most)
    if mark.most_ratio is not None:
        allowed.append(ratio is not None and ratio <= mark.most_ratio)
    return any(allowed) if allowed else None


def _must_reach(mark: Mark) -> str:
    most = "" if mark.most is None else f"{mark.most:g} {mark.unit}"
    if mark.least is not None:
        return f"≥ {_value(mark.least, mark.unit)}"
    if mark.least_ratio is not None:
        return f"≥ {mark.least_ratio:.2g} ×"
    if mark.most_ratio is None:
        return f"≤ {most}" if most else "reported"
    return f"≤ max({most}, {mark.most_ratio:g} ×)" if most else f"≤ {mark.most_ratio:g} ×"


def _with_spread(summary: Summary, unit: Unit) -> str:
    if summary.least == summary.most:
        return _value(summary.median, unit)
    return f"{_value(summary.median, unit)} ({_number(summary.least, unit)}–{_number(summary.most, unit)})"


def _value(number: float, unit: Unit) -> str:
    return f"{_number(number, unit)}{'' if unit is Unit.RATE else ' '}{unit}"


def _number(number: float, unit: Unit) -> str:
    if math.isnan(number):
        return "unknown"
    match unit:
        case Unit.MILLISECONDS | Unit.EACH:
            return f"{number:.2f}"
        case Unit.MEGABYTES | Unit.KIBIBYTES | Unit.MICROSECONDS:
            return f"{number:.1f}"
        case _:
            return f"{number:,.0f}"
