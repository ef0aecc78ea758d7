"""How long a failed job waits: within its bounds, spread by its jitter, and longer each time."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rexecutor_client import Constant, Exponential, Linear, Polynomial
from rexecutor_client.backoff import DEFAULT, Backoff

DAY = timedelta(days=1)

attempts = st.integers(1, 65_535)
bases = st.timedeltas(timedelta(0), timedelta(days=30))
jitters = st.floats(0, 1)


@st.composite
def bounds(draw: st.DrawFn) -> dict[str, timedelta]:
    least, most = sorted(draw(st.tuples(bases, bases)))
    return {"min": least, "max": most}


@st.composite
def backoffs(draw: st.DrawFn, *, jitter: st.SearchStrategy[float] = jitters) -> Backoff:
    options = {**draw(bounds()), "base": draw(bases), "jitter": draw(jitter)}
    match draw(st.sampled_from([Constant, Linear, Polynomial, Exponential])):
        case kind if kind is Polynomial:
            return Polynomial(**options, exponent=draw(st.floats(0, 50)))
        case kind if kind is Exponential:
            return Exponential(**options, factor=draw(st.floats(1, 1e6)))
        case kind:
            return kind(**options)


@given(backoffs(), attempts)
def test_delay_is_within_its_bounds_whatever_the_attempt(backoff, attempt):
    assert backoff.min <= backoff.delay(attempt) <= backoff.max


@given(backoffs(jitter=st.just(0.0)), attempts)
def test_without_jitter_a_later_attempt_never_waits_less(backoff, attempt):
    assert backoff.delay(attempt) == backoff.delay(attempt)
    assert backoff.delay(attempt) <= backoff.delay(attempt + 1)


@given(jitters, attempts)
def test_jitter_spreads_by_no_more_than_its_part(jitter, attempt):
    exact = Linear(jitter=0, max=365 * DAY).delay(attempt)
    spread = Linear(jitter=jitter, max=1_000 * DAY).delay(attempt)
    slack = timedelta(microseconds=1)
    assert exact * (1 - jitter) - slack <= spread <= exact * (1 + jitter) + slack


def test_jitter_does_spread():
    """What failed together must not come together."""
    assert len({Constant(jitter=0.1).delay(1) for _ in range(100)}) > 50


@given(attempts)
def test_usual_backoff_doubles_from_four_seconds_to_seven_days_give_or_take_a_tenth(attempt):
    exact = min(timedelta(seconds=4) * 2 ** min(attempt - 1, 30), timedelta(days=7))
    assert exact * 0.9 <= DEFAULT.delay(attempt) <= min(exact * 1.1, timedelta(days=7))


@pytest.mark.parametrize(
    ("backoff", "seconds"),
    [
        (Constant(base=timedelta(seconds=3), jitter=0), [3, 3, 3]),
        (Linear(base=timedelta(seconds=3), jitter=0), [3, 6, 9]),
        (Polynomial(base=timedelta(seconds=3), exponent=2, jitter=0), [3, 12, 27]),
        (Exponential(base=timedelta(seconds=3), factor=3, jitter=0), [3, 9, 27]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Backoff) else "",
)
def test_first_delays(backoff, seconds):
    assert [backoff.delay(attempt).total_seconds() for attempt in (1, 2, 3)] == seconds


@pytest.mark.parametrize("jitter", [-0.1, 1.1])
def test_jitter_beyond_the_whole_is_refused(jitter):
    with pytest.raises(ValueError, match="jitter"):
        Constant(jitter=jitter)


def test_bounds_the_wrong_way_round_are_refused():
    with pytest.raises(ValueError, match="min"):
        Constant(min=DAY, max=timedelta(hours=1))
