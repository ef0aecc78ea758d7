"""Services for tests: in this process, each on a database file of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from app.backend.extensions import Service
from app.main import open_service
from app.observability.meter import Meter
from app.settings import Settings

Value = TypeVar("Value")

on_both_databases = pytest.mark.parametrize("database_url", ["sqlite", "postgres"], indirect=True)
"""For tests that use ``service``: what holds for every database is tested on each."""


@asynccontextmanager
async def running_service(folder: Path, **settings: Any) -> AsyncIterator[Service]:
    """A service on ``jobs.db`` in a folder."""
    async with in_a_task_of_its_own(open_service(new_settings(folder, **settings), Meter())) as service:
        yield service


def new_settings(folder: Path, **settings: Any) -> Settings:
    url = settings.get("database_url", f"sqlite:///{folder}/jobs.db")
    # A PostgreSQL for tests has its schema.
    own = {"database_url": url, "reserve_bytes": 0, "migrate": url.startswith("sqlite")}
    return Settings(**{**own, **settings})


@asynccontextmanager
async def in_a_task_of_its_own(context: AbstractAsyncContextManager[Value]) -> AsyncIterator[Value]:
    """Enter and leave a context in one task.

    Fixtures are set up in one task and torn down in another, which the task groups of a service would not bear.
    """
    entered: asyncio.Future[Value] = asyncio.get_running_loop().create_future()
    leave = asyncio.Event()

    async def stay() -> None:
        async with context as value:
            entered.set_result(value)
            await leave.wait()

    task = asyncio.create_task(stay())
    await asyncio.wait({task, entered}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    try:
        yield entered.result()
    finally:
        leave.set()
        await task
