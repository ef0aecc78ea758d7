"""How connections to the server are set up: none may wait for ever, here or there."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import asyncpg

CONNECT_SECONDS = 5.0
STATEMENT_SECONDS = 10.0
"""Most that one statement takes: it is then ended by the server."""
LOCK_SECONDS = 5.0
CLIENT_SECONDS = STATEMENT_SECONDS + 2.0
"""After this a server that does not even say that it gave up is taken for dead."""

Connect: TypeAlias = Callable[[], Awaitable[asyncpg.Connection]]

_SETTINGS = {
    "application_name": "rexecutor",
    "timezone": "UTC",
    "statement_timeout": f"{STATEMENT_SECONDS:.0f}s",
    "lock_timeout": f"{LOCK_SECONDS:.0f}s",
    "idle_in_transaction_session_timeout": f"{STATEMENT_SECONDS:.0f}s",
    # Its compilation takes longer than any statement here.
    "jit": "off",
}
# Each hot statement is made for an index. A table that was empty when its statistics were made, or never had any,
# would be read from end to end.
_HOT_SETTINGS = {"enable_seqscan": "off", "enable_bitmapscan": "off", "plan_cache_mode": "force_generic_plan"}


async def connect(url: str, *, hot: bool = False) -> asyncpg.Connection:
    """Open a connection; ``hot`` ones are for statements that all have an index."""
    return await asyncpg.connect(
        url,
        timeout=CONNECT_SECONDS,
        command_timeout=CLIENT_SECONDS,
        server_settings=_SETTINGS | _HOT_SETTINGS if hot else _SETTINGS,
    )
