"""The bench: how much is done in a round, and the service started on a fresh copy of a store."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from msgspec import Struct

from .children import Server, running_server
from .stores import Store, Stores


class Scale(Struct, frozen=True, kw_only=True):
    """How much is done in one round."""

    warm_seconds: float = 0.3
    flood_seconds: float = 1.5
    raw_commits: int = 5_000
    raw_bulk_jobs: int = 100_000
    warm_drain_jobs: int = 2_000
    drain_jobs: int = 20_000
    pickup_warm_jobs: int = 250
    pickup_jobs: int = 2_000
    pickups_per_second: float = 500.0
    lateness_jobs: int = 3_000
    lateness_seconds: float = 10.0
    memory_jobs: int = 200_000
    idle_sockets: int = 1_000
    sustained_seconds: float = 600.0
    sustained_per_second: float = 1_000.0


FULL = Scale()
QUICK = Scale(
    flood_seconds=0.5,
    raw_commits=1_500,
    raw_bulk_jobs=30_000,
    drain_jobs=6_000,
    pickup_jobs=500,
    lateness_jobs=600,
    lateness_seconds=2.0,
    memory_jobs=20_000,
    idle_sockets=200,
    sustained_seconds=20.0,
)


class Bench:
    """Where figures are measured."""

    def __init__(self, folder: Path, stores: Stores, scale: Scale) -> None:
        """Use the folder for what servers write."""
        self.stores = stores
        self.scale = scale
        self._log = folder / "server.log"

    @asynccontextmanager
    async def service(self, store: Store) -> AsyncIterator[Server]:
        """Run the service on a copy of the store, with the settings that it has by itself."""
        async with self.services(store, 1) as (server,):
            yield server

    @asynccontextmanager
    async def services(self, store: Store, count: int) -> AsyncIterator[Sequence[Server]]:
        """Run so many servers on one copy of the store."""
        with self.stores.copy(store) as database:
            async with AsyncExitStack() as stack:
                yield [await stack.enter_async_context(self.service_on(database)) for _ in range(count)]

    @asynccontextmanager
    async def service_on(self, database: str) -> AsyncIterator[Server]:
        """Run the service on the database at this URL."""
        settings = {"REXECUTOR_PORT": "0", "REXECUTOR_DATABASE_URL": database}
        async with running_server("app", "serve", settings=settings, log=self._log) as server:
            yield server

    @asynccontextmanager
    async def stand_in(self, module: str, *arguments: str) -> AsyncIterator[Server]:
        """Run one of the yardsticks' servers."""
        settings = {"REXECUTOR_PORT": "0"}
        async with running_server(f"benchmarks.yardsticks.{module}", *arguments, settings=settings) as server:
            yield server
