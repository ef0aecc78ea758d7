"""Leadership on PostgreSQL: a row with holder, term and end, by the database's clock."""

from collections.abc import Sequence

from ....domain.leadership import Lead
from .transaction import NOW, PostgresTransaction

_MAINTENANCE = "maintenance"

# The term changes with the holder only: whoever renews late, but before anybody else has led, may go on.
_LEAD = f"""
WITH led AS (
  INSERT INTO leaders (name, holder, term, expires_at) VALUES ('{_MAINTENANCE}', $1, 1, {NOW} + $2::bigint)
  ON CONFLICT (name) DO UPDATE
    SET term = leaders.term + (leaders.holder <> excluded.holder)::int, holder = excluded.holder,
        expires_at = excluded.expires_at
    WHERE leaders.holder = excluded.holder OR leaders.expires_at <= {NOW}
  RETURNING term, expires_at
)
SELECT term, expires_at - {NOW} AS remaining FROM led
UNION ALL
SELECT NULL, expires_at - {NOW} FROM leaders WHERE name = '{_MAINTENANCE}' AND NOT EXISTS (SELECT 1 FROM led)
"""
# The lock is held until the commit: until then nobody else begins to lead.
STILL_LEADS = f"SELECT 1 FROM leaders WHERE name = '{_MAINTENANCE}' AND term = $1 FOR SHARE"


async def lead(transaction: PostgresTransaction, wishes: Sequence[float]) -> list[Lead]:
    """Let this server lead for so many seconds, unless another does."""
    leads = []
    for seconds in wishes:
        row = await transaction.connection.fetchrow(_LEAD, transaction.rules.owner, int(seconds * 1_000_000))
        # No row: of two that were the first the other was it, and was not there to be seen.
        leads.append(Lead(None, 0.0) if row is None else Lead(row["term"], row["remaining"] / 1_000_000))
    return leads


async def still_leads(transaction: PostgresTransaction, term: int) -> bool:
    """Tell whether nobody has led since this term began, and let nobody before this transaction ends."""
    return await transaction.connection.fetchval(STILL_LEADS, term) is not None
