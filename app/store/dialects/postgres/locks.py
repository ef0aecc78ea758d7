"""Advisory locks, all of the transaction: what they stand for, and the one order in which they are taken."""

from collections.abc import Iterable
from zlib import crc32

MIGRATION = 0x72657801
IDEMPOTENCY = 0x72657802
UNIQUE = 0x72657803
UNIQUE_IN_EXECUTOR = 0x72657804
SESSION = 0x72657805
COUNTS = 0x72657806

LOCK = "SELECT pg_advisory_xact_lock($1::int, $2::int)"
LOCK_SHARED = "SELECT pg_advisory_xact_lock_shared($1::int, $2::int)"
TRY_LOCK = "SELECT pg_try_advisory_xact_lock($1::int, $2::int)"
# A function scan gives its rows in order.
LOCK_MANY = "SELECT count(pg_advisory_xact_lock($1::int, key)) FROM unnest($2::int[]) AS key"


def keys_of(names: Iterable[str]) -> list[int]:
    """Return the keys of names in the order in which they are locked. Two names with one key only wait needlessly."""
    return sorted({crc32(name.encode()) - 2**31 for name in names})
