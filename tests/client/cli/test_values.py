"""What people write for times, durations and JSON."""

from datetime import UTC, datetime, timedelta

import pytest

from rexecutor_client.commands.exits import UsageError
from rexecutor_client.commands.values import duration, json_value, moment, past


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 5),
        ("90", 90),
        ("0.5", 0.5),
        ("5m", 300),
        ("2h30m", 9_000),
        ("1.5h", 5_400),
        ("250ms", 0.25),
        ("1w2d", 777_600),
        ("P1D", 86_400),
        ("p1w", 604_800),
        ("PT2M", 120),
        ("P1DT2H3M4.5S", 93_784.5),
    ],
)
def test_durations_are_read(text, seconds):
    assert duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "m", "5x", "5m ", "-5m", "-5", "nan", "inf", "P", "PT", "P1Y", "1e3", "9" * 30 + "w"]
)
def test_what_is_no_duration_is_wrong_usage(text):
    with pytest.raises(UsageError, match="write 90"):
        duration(text)


def test_time_with_an_offset_is_that_instant():
    assert (
        moment("2026-11-26T18:00:00+01:00") == moment("2026-11-26T17:00:00Z") == datetime(2026, 11, 26, 17, tzinfo=UTC)
    )


def test_time_without_an_offset_is_local():
    assert moment("2026-11-26T17:00:00") == datetime(2026, 11, 26, 17).astimezone()


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-13-01", "25:00", "5m"])
def test_what_is_no_time_is_wrong_usage(text):
    with pytest.raises(UsageError, match="is no time"):
        moment(text)


def test_past_takes_how_long_ago_it_was():
    assert abs(datetime.now(UTC) - timedelta(hours=1) - past("1h")) < timedelta(seconds=5)
    assert past("2026-11-26T17:00:00Z") == datetime(2026, 11, 26, 17, tzinfo=UTC)


def test_past_before_all_time_is_wrong_usage():
    with pytest.raises(UsageError, match="too long ago"):
        past("9000000w")


def test_json_comes_from_a_file(tmp_path):
    file = tmp_path / "data.json"
    file.write_text('{"to": "ada"}')
    assert json_value(f"@{file}") == {"to": "ada"}


def test_file_that_is_not_there_is_wrong_usage(tmp_path):
    with pytest.raises(UsageError, match="cannot read"):
        json_value(f"@{tmp_path}/nothing.json")


@pytest.mark.parametrize("text", ["hello", "{", "NaN", "[1,]", "1e400", '"\ud800"', "[" * 100_000])
def test_what_is_no_json_is_wrong_usage(text):
    with pytest.raises(UsageError, match="is no JSON"):
        json_value(text)
