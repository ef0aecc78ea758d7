"""What the leader forgets on PostgreSQL."""

from collections.abc import Sequence

from .idempotency import forget_answers
from .leadership import still_leads
from .notices import forget_notices
from .transaction import PostgresTransaction


async def sweep(transaction: PostgresTransaction, terms: Sequence[int]) -> list[int | None]:
    """Delete what nobody may ask for any more; return how many rows, None for a term that is over."""
    await transaction.begin()
    return [await _sweep(transaction) if await still_leads(transaction, term) else None for term in terms]


async def _sweep(transaction: PostgresTransaction) -> int:
    return await forget_answers(transaction) + await forget_notices(transaction)
