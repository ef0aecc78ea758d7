"""The API in this process, on a database of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from app.main import create_app
from tests.services import in_a_task_of_its_own, new_settings


@pytest.fixture
async def api(tmp_path: Path, database_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a running service."""
    app = create_app(new_settings(tmp_path, database_url=database_url))
    client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://service")
    async with in_a_task_of_its_own(app.router.lifespan_context(app)), client:
        yield client
