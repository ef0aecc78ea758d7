"""Advisory locks, all of the transaction: what they stand for, and the one order in which they are taken."""

from collections.abc import Iterable
from zlib import crc32

MIGRATION = 0x72657801
IDEMPOTENCY = 0x72657802
UNIQUE = 0x72657803
UNIQUE_IN_EXECUTOR = 0x72657804
SESSION = 0x72657805
COUNTS = 0x72657806
UNIQUE_BY_KEY = 0x72657807
MOVES = 0x72657808

LOCK = "SELECT pg_advisory_xact_lock($1::int, $2::int)"
TRY_LOCK = "SELECT pg_try_advisory_xact_lock($1::int, $2::int)"
# A function scan gives its rows in order.
LOCK_MANY = "SELECT count(pg_advisory_xact_lock($1::int, key)) FROM unnest($2::int[]) AS key"
LOCK_IN_MODES = """
SELECT count(CASE WHEN exclusive THEN pg_advisory_xact_lock(kind, key) ELSE pg_advisory_xact_lock_shared(kind, key) END)
FROM unnest($1::int[], $2::int[], $3::bool[]) AS wanted (kind, key, exclusive)
"""


def keys_of(names: Iterable[str]) -> list[int]:
    """Return the keys of names in the order in which they are locked. Two names with one key only wait needlessly."""
    return sorted({key_of_name(name) for name in names})


def key_of_name(name: str) -> int:
    """Return the key of a name."""
    return crc32(name.encode()) - 2**31
