"""The stores of servers that could lead, without the loops of a server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from uuid_utils import uuid7

from app.store.database import open_dialect
from app.store.dialects.base import Dialect, StoreRules


@asynccontextmanager
async def running_dialect(url: str) -> AsyncIterator[Dialect]:
    """The store of a server unlike any other."""
    rules = StoreRules(owner=str(uuid7()), require_fence=False, payload_bytes=1024, grace_seconds=0)
    dialect = open_dialect(url, rules, lambda _: None)
    await dialect.start()
    try:
        yield dialect
    finally:
        await dialect.stop()
