"""Whether the database answers, and at which revision its schema stands."""

import asyncio

from .dialects.base import Dialect
from .migrations import current

_SECONDS = 2.0


async def schema_revision(dialect: Dialect) -> str | None:
    """Return the schema's revision, empty if there is none; None when the database does not answer in two seconds."""
    try:
        async with asyncio.timeout(_SECONDS), dialect.reading() as connection:
            return await connection.run_sync(current) or ""
    except Exception:  # noqa: BLE001 - whatever it is, the database does not serve
        return None
