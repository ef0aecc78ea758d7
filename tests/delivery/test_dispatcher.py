"""When a dispatcher submits claims, to the turn of the event loop."""

import asyncio
from contextlib import asynccontextmanager

from app.delivery.dispatcher import Dispatcher
from app.observability.meter import Meter
from app.store.claim import Claimed
from tests.builders import SECOND, now
from tests.delivery.streams import PATIENCE_SECONDS

EXECUTOR = "mail"
ENOUGH = Claimed([[]], [1])


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

    lease, worker, is_impatient = 1, "worker", False

    def __init__(self, credits):
        self.wanted = credits
        self.returns = False

    def reserve(self, credits):
        self.wanted -= credits
        self.returns = False
        return 0

    def give(self, jobs, *, reserved, token):
        return ()


@asynccontextmanager
async def dispatching(dialect, place):
    dispatcher = Dispatcher(
        EXECUTOR, dialect, meter=Meter(), fallback_seconds=30, give_back=lambda _: None, emptied=lambda: None
    )
    dispatcher.join(place)
    running = asyncio.create_task(dispatcher.loop.run())
    try:
        yield dispatcher
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_what_a_claim_has_brought_is_handed_out_before_the_next_is_submitted():
    """Until then the credits that it has spent look open."""
    dialect, place = FakeDialect(), Place(4)
    async with dispatching(dialect, place) as dispatcher:
        await turn()
        for number in range(1, 4):
            credits, outcome = dialect.claims[-1]
            assert (len(dialect.claims), credits) == (number, 4)
            outcome.set_result([ENOUGH])
            place.wanted = 4
            dispatcher.expect_credits()
            assert len(dialect.claims) == number
            await turn()


async def test_job_of_which_a_claim_told_is_claimed_in_time_though_the_next_claim_wanted_nothing():
    dialect, place = FakeDialect(), Place(0)
    async with dispatching(dialect, place) as dispatcher:
        await turn()
        place.wanted = 4
        dispatcher.demand_changed()
        await turn()
        dialect.claims[0][1].set_result([ENOUGH])
        place.wanted = 4
        await turn()
        place.wanted = 4
        dispatcher.expect_credits()
        dialect.claims[1][1].set_result([ENOUGH])
        place.returns = True
        await turn()
        assert [credits for credits, _ in dialect.claims] == [4, 4, 4, 0]
        dialect.claims[2][1].set_result([Claimed([[]], [1], False, True, now() + SECOND // 20)])
        place.wanted = 4
        await turn()
        dialect.claims[3][1].set_result([Claimed([[]], [1], False, False)])
        async with asyncio.timeout(PATIENCE_SECONDS // 2):
            while len(dialect.claims) == 4:
                await asyncio.sleep(0.01)


async def turn():
    """Let all go on that can."""
    for _ in range(5):
        await asyncio.sleep(0)
