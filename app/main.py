"""The only place where the parts are wired."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.types import Lifespan
from uuid_utils import uuid7

from .api.application import build_api
from .backend.extensions import Service
from .backend.sql import SqlBackend
from .delivery.registry import Registry
from .domain.instant import Instant
from .domain.limits import Limits
from .maintenance.leadership import Leadership
from .maintenance.rescuer import Rescuer
from .maintenance.sweeper import Sweeper
from .observability.failpoints import FailingSends, Failpoints, parse_failpoints
from .observability.logging import get_logger
from .observability.meter import Meter
from .settings import Settings
from .store import migrations
from .store.database import open_dialect
from .store.dialects.base import StoreRules, process_clock
from .store.effects import Effects


def create_app(settings: Settings | None = None, *, clock: Callable[[], Instant] = process_clock) -> FastAPI:
    """Return the service as an ASGI application; its lifespan opens and closes the database.

    ``clock`` tells the time on SQLite; who sets it calls the service's ``clock_moved``.
    """
    settings = settings or Settings()
    meter = Meter()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_service(settings, meter, clock=clock) as service:
            app.state.service = service
            try:
                yield
            finally:
                app.state.service = None

    return _build_api(settings, meter, lifespan)


@asynccontextmanager
async def open_service(
    settings: Settings, meter: Meter, *, clock: Callable[[], Instant] = process_clock
) -> AsyncIterator[Service]:
    """Open the database, bring its schema to head unless told not to, and run the loops; close all at the end."""
    failpoints = _failpoints(settings)
    rules = StoreRules(
        owner=str(uuid7()),
        require_fence=settings.require_fence,
        payload_bytes=settings.max_payload_bytes,
        grace_seconds=min(2.0, settings.lease_seconds / 3),
        failpoints=failpoints,
        reserve_bytes=settings.reserve_bytes,
        clock=clock,
    )

    def committed(effects: Effects) -> None:
        # What another server's hint tells of was counted there.
        if effects.tally.writes:
            meter.committed(effects.tally)
        registry.committed(effects)

    dialect = open_dialect(settings.database_url, rules, committed, behind_pooler=settings.is_behind_pooler)
    async with asyncio.TaskGroup() as tasks:
        registry = Registry(
            dialect,
            tasks,
            meter=meter,
            lease_seconds=settings.lease_seconds,
            failpoints=failpoints,
        )
        dialect.hold()
        if settings.migrate:
            await asyncio.to_thread(migrations.upgrade, settings.database_url, behind_pooler=settings.is_behind_pooler)
        await dialect.start()
        try:
            service = SqlBackend(
                dialect,
                registry,
                meter,
                lease_seconds=settings.lease_seconds,
                schema_fits=migrations.fits,
            )
            leadership = Leadership(service)
            loops = [
                Rescuer(service, lease_seconds=settings.lease_seconds).loop,
                leadership.loop,
                Sweeper(service, leadership).loop,
                *dialect.loops(),
            ]
            service.loops.append(lambda: [loop.name for loop in loops if loop.is_dead])
            maintenance = [tasks.create_task(loop.run()) for loop in loops]
            try:
                yield service
            finally:
                for task in maintenance:
                    task.cancel()
                await asyncio.wait(maintenance)
                await leadership.resign()
        finally:
            await registry.stop()
            await dialect.stop()


def migrate_database(settings: Settings, revision: str) -> None:
    """Bring a database's schema to a revision. Raises DatabaseHeld while a server has the database for itself."""
    dialect = open_dialect(
        settings.database_url,
        StoreRules(owner="", require_fence=False, payload_bytes=0, grace_seconds=0),
        lambda _: None,
    )
    dialect.hold()
    migrations.upgrade(settings.database_url, revision, behind_pooler=settings.is_behind_pooler)


def app_for(service: Service, settings: Settings, meter: Meter) -> FastAPI:
    """Return the application over a service that somebody else opened and will close."""
    app = _build_api(settings, meter, None)
    app.state.service = service
    return app


def _build_api(settings: Settings, meter: Meter, lifespan: Lifespan[FastAPI] | None) -> FastAPI:
    app = build_api(
        meter=meter,
        limits=_limits(settings),
        lease_seconds=settings.lease_seconds,
        allowed_origins=settings.allowed_origins,
        lifespan=lifespan,
    )
    failpoints = parse_failpoints(settings.failpoints)
    if failpoints is not None:
        app.add_middleware(FailingSends, failpoints=failpoints)
    return app


def _failpoints(settings: Settings) -> Failpoints | None:
    failpoints = parse_failpoints(settings.failpoints)
    if failpoints is not None:
        get_logger().warning("failpoints.set", points=settings.failpoints)
    return failpoints


def _limits(settings: Settings) -> Limits:
    return Limits(
        request_bytes=settings.max_request_bytes,
        bulk_bytes=settings.max_bulk_bytes,
        bulk_jobs=settings.max_bulk_jobs,
        payload_bytes=settings.max_payload_bytes,
    )
