"""When a dispatcher submits claims, to the turn of the event loop."""

import asyncio

from app.delivery.dispatcher import Dispatcher
from app.observability.meter import Meter
from app.store.claim import Claimed
from tests.builders import now

EXECUTOR = "mail"


class FakeDialect:
    """Notes the credits of each claim; its outcome is up to the test."""

    def __init__(self):
        self.claims = []

    def now(self):
        return now()

    def claim(self, calls):
        (call,) = calls
        self.claims.append((sum(demand.credits for demand in call.demands), asyncio.get_running_loop().create_future()))
        return self.claims[-1][1]


class Place:
    """Wants jobs while it has credits."""

    lease, worker, returns, is_impatient = 1, "worker", False, False

    def __init__(self, credits):
        self.wanted = credits

    def reserve(self, credits):
        self.wanted -= credits
        return 0

    def give(self, jobs, *, reserved, token):
        return ()


async def test_what_a_claim_has_brought_is_handed_out_before_the_next_is_submitted():
    """Until then the credits that it has spent look open."""
    dialect, place = FakeDialect(), Place(4)
    dispatcher = Dispatcher(
        EXECUTOR, dialect, meter=Meter(), fallback_seconds=30, give_back=lambda _: None, emptied=lambda: None
    )
    dispatcher.join(place)
    running = asyncio.create_task(dispatcher.loop.run())
    await turn()
    for number in range(1, 4):
        credits, outcome = dialect.claims[-1]
        assert (len(dialect.claims), credits) == (number, 4)
        outcome.set_result([Claimed([[]], [1])])
        place.wanted = 4
        dispatcher.expect_credits()
        assert len(dialect.claims) == number
        await turn()
    running.cancel()


async def turn():
    """Let all go on that can."""
    for _ in range(5):
        await asyncio.sleep(0)
