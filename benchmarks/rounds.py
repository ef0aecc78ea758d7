"""The rounds: of each figure the yardstick and the measurements take turns, so that what disturbs one disturbs all."""

import sys
from collections import defaultdict
from collections.abc import Sequence

from .figures import drain, enqueue, latency, memory, postgres, sdk_client, sdk_worker
from .figures.figure import LOAD, YARDSTICK, Figure, Numbers
from .rig.bench import Bench
from .rig.stores import Store

SQLITE: tuple[Figure, ...] = (
    *enqueue.FIGURES,
    *drain.FIGURES,
    *latency.FIGURES,
    *memory.FIGURES,
    *sdk_client.FIGURES,
    *sdk_worker.FIGURES,
)
POSTGRES: tuple[Figure, ...] = postgres.FIGURES

Series = dict[str, list[float]]
"""By figure, subject and quantity, the number of each round."""


def chosen(figures: Sequence[Figure], names: Sequence[str]) -> list[Figure]:
    """Return the figures whose keys begin with one of the names; all that take no name when there are none."""
    if not names:
        return [figure for figure in figures if not figure.only_named]
    return [figure for figure in figures if any(figure.key.startswith(name) for name in names)]


async def measure(bench: Bench, figures: Sequence[Figure], *, rounds: int) -> Series:
    """Measure figures in rounds; tell what comes of each on standard error."""
    series: Series = defaultdict(list)

    def note(figure: Figure, subject: str, numbers: Numbers, number: int) -> None:
        for quantity, value in numbers.items():
            series[f"{figure.key}.{subject}.{quantity}"].append(value)
        shown = "  ".join(f"{quantity} {value:,.3f}".rstrip("0").rstrip(".") for quantity, value in numbers.items())
        print(f"{figure.key} {number}/{rounds} {subject}: {shown}", file=sys.stderr, flush=True)

    for figure in figures:
        for number in range(1, rounds + 1):
            note(figure, YARDSTICK, await figure.yardstick(bench), number)
            for store in _order(bench, figure, number):
                note(figure, store, await figure.measure(bench, store), number)
            if figure.load is not None:
                note(figure, LOAD, await figure.load(bench), number)
    return dict(series)


def _order(bench: Bench, figure: Figure, number: int) -> list[Store]:
    """Return the stores to measure, every other round the other way round."""
    stores = [Store.EMPTY] if figure.only_empty else bench.stores.kinds
    return stores if number % 2 else stores[::-1]
