"""Whether the database answers, and at which revision its schema stands."""

import asyncio

from .dialects.base import Dialect
from .migrations import current

_SECONDS = 2.0


async def schema_revision(dialect: Dialect) -> str | None:
    """Return the schema's revision; None when the database does not answer within two seconds, or has none."""
    try:
        async with asyncio.timeout(_SECONDS), dialect.reading() as connection:
            return await connection.run_sync(current)
    except Exception:  # noqa: BLE001 - whatever it is, the database does not serve
        return None
