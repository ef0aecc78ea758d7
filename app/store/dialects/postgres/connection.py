"""How connections to the server are set up: none may wait for ever, here or there."""

import asyncpg
from msgspec import Struct

CONNECT_SECONDS = 5.0
STATEMENT_SECONDS = 10.0
"""Most that one statement takes: it is then ended by the server."""
LOCK_SECONDS = 5.0
CLIENT_SECONDS = STATEMENT_SECONDS + 2.0
"""After this a server that does not even say that it gave up is taken for dead."""

_NAME = {"application_name": "rexecutor"}
_SETTINGS = {
    "statement_timeout": f"{STATEMENT_SECONDS:.0f}s",
    "lock_timeout": f"{LOCK_SECONDS:.0f}s",
    "idle_in_transaction_session_timeout": f"{STATEMENT_SECONDS:.0f}s",
    # Its compilation takes longer than any statement here.
    "jit": "off",
}
# Each hot statement is made for an index. A table that was empty when its statistics were made, or never had any,
# would be read from end to end.
_HOT_SETTINGS = {"enable_seqscan": "off", "enable_bitmapscan": "off", "plan_cache_mode": "force_generic_plan"}
_LOCAL = "; ".join(f"SET LOCAL {name} = '{value}'" for name, value in (_SETTINGS | _HOT_SETTINGS).items())
_PREPARE_READING = "SELECT " + ", ".join(f"set_config('{name}', '{value}', true)" for name, value in _SETTINGS.items())

# All that statements here are given.
_ARRAYS = "SELECT $1::bool[], $2::int[], $3::bigint[], $4::text[]"


class Road(Struct, frozen=True):
    """The way to a database: straight, or through a pooler that may give each transaction another connection.

    Behind a pooler nothing outlives a transaction: no settings, no statements by name, no listening.
    """

    url: str
    is_pooled: bool = False

    async def connect(self, *, hot: bool = False) -> asyncpg.Connection:
        """Open a connection; ``hot`` ones are for statements that all have an index."""
        settings = {"timezone": "UTC"} | _SETTINGS | (_HOT_SETTINGS if hot else {})
        connection = await asyncpg.connect(
            self.url,
            timeout=CONNECT_SECONDS,
            command_timeout=CLIENT_SECONDS,
            statement_cache_size=self.statement_cache_size,
            server_settings=_NAME if self.is_pooled else _NAME | settings,
        )
        if self.is_pooled:
            await _look_up_arrays(connection)
        return connection

    @property
    def statement_cache_size(self) -> int:
        """How many statements a connection keeps by name. Without any, asyncpg parses each anew with its parameters,
        also those that SQLAlchemy keeps.
        """
        return 0 if self.is_pooled else 100

    @property
    def begin(self) -> str:
        """What begins a transaction on a ``hot`` connection."""
        return f"BEGIN; {_LOCAL}" if self.is_pooled else "BEGIN"

    @property
    def prepare_reading(self) -> str | None:
        """What is said first in a reading transaction, if anything."""
        return _PREPARE_READING if self.is_pooled else None


async def _look_up_arrays(connection: asyncpg.Connection) -> None:
    """Let the driver look up now what it needs to know of arrays, and undo what it sets for that.

    It would do so with the first array, and leave ``jit`` off for whoever has the server's connection next.
    """
    try:
        await connection.execute("BEGIN")
        await connection.fetchrow(_ARRAYS, [], [], [], [])
        await connection.execute("ROLLBACK")
    except BaseException:
        connection.terminate()
        raise
