"""A figure: what one round of it does, and the marks that its medians must reach."""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

from ..rig.bench import Bench
from ..rig.stores import Store

Numbers: TypeAlias = dict[str, float]
"""What one measurement gave, by quantity."""

YARDSTICK = "yardstick"
LOAD = "load"
"""The load by itself, against a server that does next to nothing."""


class Unit(StrEnum):
    """What a number counts."""

    RATE = "/s"
    MILLISECONDS = "ms"
    MICROSECONDS = "µs"
    MEGABYTES = "MB"
    KIBIBYTES = "KiB"
    JOBS = "jobs"
    EACH = "each"
    BYTES = "bytes"


class Mark(Struct, frozen=True, kw_only=True):
    """One row of the table: a series, what it is compared with, and what must come of it.

    A series is named by its figure, its subject (a store, the yardstick or the load) and its quantity.
    """

    title: str
    measured: str
    unit: Unit
    yardstick: str | None = None
    yardstick_title: str = ""
    least: float | None = None
    least_ratio: float | None = None
    most_ratio: float | None = None
    most: float | None = None
    """With ``most_ratio`` either is enough: the greater of both is allowed."""


class Figure(Struct, frozen=True, kw_only=True):
    """A figure. Its yardstick and its measurements take turns."""

    key: str
    yardstick: Callable[[Bench], Awaitable[Numbers]]
    measure: Callable[[Bench, Store], Awaitable[Numbers]]
    marks: tuple[Mark, ...]
    load: Callable[[Bench], Awaitable[Numbers]] | None = None
    only_empty: bool = False
    """Whether it is not measured with jobs stored."""
    only_named: bool = False
    """Whether it takes so long that it is measured only when it is asked for by name."""


def rate_marks(key: str, title: str, *, quantity: str = "rate", least: float | None, compared: str) -> tuple[Mark, ...]:
    """Return the rows of a rate: on the empty store beside the yardstick, and with jobs stored beside the empty one."""
    return (
        Mark(
            title=title,
            measured=f"{key}.{Store.EMPTY}.{quantity}",
            unit=Unit.RATE,
            yardstick=f"{key}.{YARDSTICK}.rate",
            yardstick_title=compared,
            least_ratio=least,
        ),
        *_stored_marks(key, quantity, Unit.RATE),
    )


def latency_marks(
    key: str, title: str, *, quantity: str, most_ratio: float | None, most: float | None
) -> tuple[Mark, ...]:
    """Return the rows of a latency: beside the raw commit's, and with jobs stored beside the empty store's."""
    return (
        Mark(
            title=f"{title}, {quantity}",
            measured=f"{key}.{Store.EMPTY}.{quantity}",
            unit=Unit.MILLISECONDS,
            yardstick=f"{key}.{YARDSTICK}.{quantity}",
            yardstick_title=f"raw commit's {quantity}",
            most_ratio=most_ratio,
            most=most,
        ),
        # What is within the figure's own mark has no need to be within a tenth of the empty store's: so few jobs decide
        # a 99th percentile that it differs by more between any two rounds.
        *_stored_marks(key, quantity, Unit.MILLISECONDS, most=most if quantity == "p99" else None),
    )


def load_mark(key: str) -> Mark:
    """Return the row that shows that the load by itself makes twice the yardstick."""
    return Mark(
        title="- the load by itself",
        measured=f"{key}.{LOAD}.rate",
        unit=Unit.RATE,
        yardstick=f"{key}.{YARDSTICK}.rate",
        yardstick_title="yardstick",
        least_ratio=2.0,
    )


def _stored_marks(key: str, quantity: str, unit: Unit, *, most: float | None = None) -> tuple[Mark, ...]:
    is_rate = unit is Unit.RATE
    titles = {Store.STORED: "- with jobs stored", Store.PRIORITIES: "- the same, 1,000 priorities"}
    return tuple(
        Mark(
            title=title,
            measured=f"{key}.{store}.{quantity}",
            unit=unit,
            yardstick=f"{key}.{Store.EMPTY}.{quantity}",
            yardstick_title="empty store",
            least_ratio=0.9 if is_rate and store is Store.STORED else None,
            most_ratio=1.1 if not is_rate and store is Store.STORED else None,
            most=most if store is Store.STORED else None,
        )
        for store, title in titles.items()
    )
