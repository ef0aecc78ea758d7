"""The page of metrics: what was counted, and what is read when it is asked for."""

import asyncio

from ..delivery.registry import Registry
from ..observability.exposition import render
from ..observability.logging import get_logger
from ..observability.meter import Meter
from ..observability.metrics import DATABASE_UP
from ..observability.tally import Series
from ..store.dialects.base import Dialect
from ..store.gauges import read_gauges

_SECONDS = 2.0

_log = get_logger()


class Scrape:
    """Reads one at a time: however many scrape, at most one of the readers' connections is theirs."""

    def __init__(self, dialect: Dialect, registry: Registry, meter: Meter) -> None:
        """Read of a started dialect."""
        self._dialect = dialect
        self._registry = registry
        self._meter = meter
        self._reading = asyncio.Lock()

    async def page(self) -> bytes:
        """Return all metrics; those of the database are left out when it does not answer in two seconds."""
        async with self._reading:
            stored = await self._read()
            snapshot = self._meter.snapshot([*stored, *self._registry.readings()])
            return await asyncio.to_thread(render, snapshot)

    async def _read(self) -> list[tuple[Series, float]]:
        try:
            async with asyncio.timeout(_SECONDS):
                return [*await read_gauges(self._dialect, self._meter.executors), ((DATABASE_UP, ()), 1)]
        except Exception as error:  # noqa: BLE001 - whatever it is, the other metrics are wanted now more than ever
            _log.warning("metrics.read_failed", exc_info=error)
            return [((DATABASE_UP, ()), 0)]
