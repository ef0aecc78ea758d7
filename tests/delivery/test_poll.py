"""A poll whose claim fails, before or after it was answered."""

import pytest

from app.delivery.poll import Poll
from app.domain.errors import DatabaseUnavailable, OutcomeUnknown
from app.store.claim import NewLease

LEASE = NewLease(session="s", executor="mail", worker="w", seconds=30, connected=False)


async def test_withdrawing_a_poll_whose_claim_failed_brings_no_jobs_and_leaves_the_error_to_the_caller():
    poll = Poll(LEASE, 1, once=False, abandon=[].append)
    poll.refuse(DatabaseUnavailable("away"), reserved=1, token=0)
    assert poll.withdraw() == ()
    with pytest.raises(DatabaseUnavailable):
        await poll.answer(None)


@pytest.mark.parametrize("is_answered", [True, False])
async def test_jobs_that_a_lost_claim_may_have_brought_are_looked_for_whether_or_not_there_was_an_answer(is_answered):
    abandoned: list[str] = []
    poll = Poll(LEASE, 1, once=False, abandon=abandoned.append)
    if is_answered:
        poll.withdraw()
    poll.refuse(OutcomeUnknown("lost"), reserved=1, token=0)
    assert abandoned == [LEASE.session]
