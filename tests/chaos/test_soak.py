"""The soak tells what grows; hand-made samples show that it can."""

import pytest

from tests.chaos.soak import Sample, growth

SECONDS = 600


def samples(**an_hour):
    """Samples of a soak in which these grow by so much an hour."""
    steady = {"resident_mib": 90.0, "open_files": 30, "threads": 4, "tasks": 40.0, "wal_mib": 4.0}
    grown = {
        name: [value + an_hour.get(name, 0) * at / 3_600 for at in range(0, SECONDS, 5)]
        for name, value in steady.items()
    }
    return [
        Sample(at=float(at), **{name: values[number] for name, values in grown.items()})
        for number, at in enumerate(range(0, SECONDS, 5))
    ]


def test_steady_service_is_within_its_marks():
    told, beyond = growth(samples())
    assert beyond == []
    assert told[0] == "resident_mib: 90.0 → 90.0, at most 90.0, +0.0 an hour"


@pytest.mark.parametrize("name", ["resident_mib", "open_files", "threads", "tasks", "wal_mib"])
def test_what_grows_is_told(name):
    _, beyond = growth(samples(**{name: 300}))
    assert [each.split()[0] for each in beyond] == [name]
