"""A histogram's numbers are those of the values that it took in, however they came."""

from hypothesis import given
from hypothesis import strategies as st

from app.observability.distribution import Distribution

BOUNDS = (0.001, 0.25, 1.0, 60.0)
VALUES = st.lists(st.sampled_from((-5, 0, 1, 999, 1_000, 1_001, 250_000, 1_000_000, 60_000_000, 60_000_001)))


def distribution() -> Distribution:
    return Distribution(BOUNDS, per_unit=1_000_000)


@given(VALUES)
def test_buckets_hold_the_values_up_to_their_bounds(values):
    seen = distribution()
    seen.observe_all(list(values))
    buckets = seen.buckets()
    expected = [(str(bound), sum(value <= bound * 1_000_000 for value in values)) for bound in BOUNDS]
    assert buckets.up_to == [*expected, ("+Inf", len(values))]
    assert buckets.total == sum(max(value, 0) for value in values) / 1_000_000


@given(VALUES)
def test_many_at_once_count_as_one_by_one(values):
    at_once, one_by_one = distribution(), distribution()
    at_once.observe_all(list(values))
    for value in values:
        one_by_one.observe(value)
    assert at_once.buckets() == one_by_one.buckets()
