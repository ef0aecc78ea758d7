"""A poll that is withdrawn while its claim fails."""

import pytest

from app.delivery.poll import Poll
from app.domain.errors import DatabaseUnavailable
from app.store.claim import NewLease

LEASE = NewLease(session="s", executor="mail", worker="w", seconds=30, connected=False)


async def test_withdrawing_a_poll_whose_claim_failed_brings_no_jobs_and_leaves_the_error_to_the_caller():
    poll = Poll(LEASE, 1, once=False)
    poll.refuse(DatabaseUnavailable("away"), reserved=1, token=0)
    assert poll.withdraw() == ()
    with pytest.raises(DatabaseUnavailable):
        await poll.answer(None)
