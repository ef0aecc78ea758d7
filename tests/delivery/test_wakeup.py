"""The dispatcher's alarm: no hint is lost, whenever it comes, and none rings early."""

import asyncio
from collections.abc import Callable

import pytest

from app.delivery.wakeup import Wakeup
from tests.builders import DAY, HOUR, now
from tests.delivery.streams import PATIENCE_SECONDS

SOON = 50_000
FALLBACK_SECONDS = 3_600.0


@pytest.fixture
async def wakeup() -> Wakeup:
    return Wakeup(now, FALLBACK_SECONDS)


async def slept(wakeup: Wakeup, until: int | None) -> int:
    """Sleep; return when it ended."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        await wakeup.sleep(until)
    return now()


async def test_sleep_ends_at_its_time_and_not_before(wakeup):
    until = now() + SOON
    assert await slept(wakeup, until) >= until


async def test_sleep_until_the_past_ends_at_once(wakeup):
    await slept(wakeup, now() - HOUR)


@pytest.mark.parametrize("until", [None, HOUR, 400 * 365 * DAY])
async def test_fallback_bounds_each_sleep(until):
    started = now()
    wakeup = Wakeup(now, 0.05)
    assert await slept(wakeup, None if until is None else started + until) >= started + SOON


HINTS: dict[str, Callable[[Wakeup], object]] = {
    "now": lambda wakeup: wakeup.wake(),
    "at an instant of the past": lambda wakeup: wakeup.wake_at(now() - HOUR),
    "at an instant to come": lambda wakeup: wakeup.wake_at(now() + SOON),
    "late, then soon": lambda wakeup: (wakeup.wake_at(now() + HOUR), wakeup.wake_at(now() + SOON)),
    "soon, then late": lambda wakeup: (wakeup.wake_at(now() + SOON), wakeup.wake_at(now() + HOUR)),
}


@pytest.mark.parametrize("until", [None, HOUR])
@pytest.mark.parametrize("hint", HINTS)
async def test_hint_wakes_a_sleeper(wakeup, hint, until):
    sleeping = asyncio.create_task(slept(wakeup, None if until is None else now() + until))
    await asyncio.sleep(0)
    HINTS[hint](wakeup)
    await sleeping


@pytest.mark.parametrize("until", [None, HOUR])
@pytest.mark.parametrize("hint", HINTS)
async def test_hint_that_comes_before_the_sleep_is_kept_for_it(wakeup, hint, until):
    HINTS[hint](wakeup)
    await slept(wakeup, None if until is None else now() + until)


async def test_hint_for_later_does_not_wake_a_sleeper_before_its_time(wakeup):
    until = now() + SOON
    wakeup.wake_at(until + HOUR)
    sleeping = asyncio.create_task(slept(wakeup, until))
    await asyncio.sleep(0)
    wakeup.wake_at(until + HOUR)
    assert await sleeping >= until


async def test_hint_is_used_up_by_one_sleep(wakeup):
    wakeup.wake()
    await slept(wakeup, None)
    until = now() + SOON
    assert await slept(wakeup, until) >= until
