"""Times and durations: what is taken, what is cut, what comes out."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.instant import (
    MAX_DURATION,
    MAX_INSTANT,
    MIN_INSTANT,
    format_instant,
    from_datetime,
    parse_duration,
    parse_instant,
    resolve,
)

instants = st.integers(MIN_INSTANT, MAX_INSTANT)
durations = st.integers(0, 36_525 * 86_400_000_000)


def at(*parts: int) -> int:
    return round(datetime(*parts, tzinfo=UTC).timestamp()) * 1_000_000


class TestInstant:
    @pytest.mark.parametrize(
        ("text", "instant"),
        [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-11-24T08:00:00Z", at(2026, 11, 24, 8)),
            ("2026-11-24T08:00:00.5Z", at(2026, 11, 24, 8) + 500_000),
            ("2026-11-24T08:00:00.000001Z", at(2026, 11, 24, 8) + 1),
            ("2026-11-24t08:00:00z", at(2026, 11, 24, 8)),
            ("2026-11-24 08:00:00Z", at(2026, 11, 24, 8)),
            ("2026-11-24T08:00:00+00:00", at(2026, 11, 24, 8)),
            ("2026-11-24T08:00:00-00:00", at(2026, 11, 24, 8)),
            ("2026-11-24T08:00:00+02:00", at(2026, 11, 24, 6)),
            ("2026-11-24T08:00:00-09:30", at(2026, 11, 24, 17, 30)),
            ("2026-11-24T00:00:00+23:59", at(2026, 11, 23, 0, 1)),
            ("2024-02-29T23:59:59Z", at(2024, 2, 29, 23, 59, 59)),
            ("2200-12-31T23:59:59.999999Z", MAX_INSTANT),
            ("2201-01-01T05:59:59.999999+06:00", MAX_INSTANT),
            ("1969-12-31T18:00:00-06:00", 0),
        ],
    )
    def test_rfc_3339_is_read(self, text, instant):
        assert parse_instant(text) == instant

    @pytest.mark.parametrize("digits", ["123456", "1234567", "123456999999999999", "1234565", "123456" + "9" * 500])
    def test_digits_beyond_microseconds_are_cut_not_rounded(self, digits):
        assert parse_instant(f"2026-11-24T08:00:00.{digits}Z") == at(2026, 11, 24, 8) + 123_456

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "now",
            "2026-11-24",
            "2026-11-24T08:00:00",
            "2026-11-24T08:00Z",
            "2026-11-24T08Z",
            "2026-11-24T08:00:00.Z",
            "2026-11-24T08:00:00,5Z",
            "2026-11-24T08:00:00 Z",
            " 2026-11-24T08:00:00Z",
            "2026-11-24T08:00:00Z\n",
            "2026-11-24T08:00:00+0200",
            "2026-11-24T08:00:00+02",
            "2026-11-24T08:00:00+24:00",
            "2026-11-24T08:00:00+02:60",
            "2026-11-24T24:00:00Z",
            "2026-11-24T25:00:00Z",
            "2026-11-24T08:60:00Z",
            "2026-11-24T08:00:61Z",
            "2026-02-29T08:00:00Z",
            "2026-13-01T08:00:00Z",
            "2026-11-31T08:00:00Z",
            "0000-01-01T08:00:00Z",
            "2026-W48-2T08:00:00Z",
            "20261124T080000Z",
            "12026-11-24T08:00:00Z",
            "-2026-11-24T08:00:00Z",
            "٢٠٢٦-11-24T08:00:00Z",
            "1764000000",
        ],
    )
    def test_anything_else_is_refused(self, text):
        with pytest.raises(ValueError):
            parse_instant(text)

    @pytest.mark.parametrize("text", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "1969-12-31T23:59:59Z"])
    def test_times_outside_the_range_are_read_so_that_they_can_be_refused_or_cut(self, text):
        assert not MIN_INSTANT <= parse_instant(text) <= MAX_INSTANT

    def test_range_is_that_of_the_contract(self):
        assert format_instant(MIN_INSTANT) == "1970-01-01T00:00:00.000000Z"
        assert format_instant(MAX_INSTANT) == "2200-12-31T23:59:59.999999Z"

    @given(instants)
    def test_what_is_written_is_read_back(self, instant):
        text = format_instant(instant)
        assert len(text) == len("2026-11-24T08:00:00.000000Z")
        assert parse_instant(text) == instant

    @given(instants, st.integers(-23 * 60 - 59, 23 * 60 + 59))
    def test_every_offset_names_the_same_instant(self, instant, minutes):
        zone = timezone(timedelta(minutes=minutes))
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=instant)
        assert parse_instant(moment.astimezone(zone).isoformat()) == instant
        assert from_datetime(moment.astimezone(zone)) == instant

    @given(instants, instants)
    def test_texts_sort_as_instants_do(self, one, other):
        assert (one < other) == (format_instant(one) < format_instant(other))


class TestDuration:
    @pytest.mark.parametrize(
        ("given_duration", "expected"),
        [
            ("PT2M", timedelta(minutes=2)),
            ("P2W", timedelta(weeks=2)),
            ("P1W3D", timedelta(days=10)),
            ("P1DT2H3M4S", timedelta(days=1, hours=2, minutes=3, seconds=4)),
            ("PT0S", timedelta(0)),
            ("P0D", timedelta(0)),
            ("PT90M", timedelta(minutes=90)),
            ("PT36H", timedelta(hours=36)),
            ("PT0.25S", timedelta(milliseconds=250)),
            ("PT1.5H", timedelta(minutes=90)),
            ("P0.5D", timedelta(hours=12)),
            ("PT0.0000019S", timedelta(microseconds=1)),
            ("PT0.000000999999999999999S", timedelta(0)),
            ("P36525D", timedelta(days=36_525)),
            ("PT3155760000S", timedelta(days=36_525)),
            ("PT0003S", timedelta(seconds=3)),
            (0, timedelta(0)),
            (90, timedelta(seconds=90)),
            (3_155_760_000, timedelta(days=36_525)),
            (1.5, timedelta(milliseconds=1500)),
            (0.1, timedelta(milliseconds=100)),
            (0.3, timedelta(milliseconds=300)),
            (1e-6, timedelta(microseconds=1)),
            (1.9e-6, timedelta(microseconds=1)),
            (9.99e-7, timedelta(0)),
            (5e-324, timedelta(0)),
            (1e3, timedelta(seconds=1000)),
            (0.29, timedelta(milliseconds=290)),
            (1.001001, timedelta(microseconds=1_001_001)),
        ],
    )
    def test_iso_8601_and_seconds_are_read(self, given_duration, expected):
        assert parse_duration(given_duration) == expected

    @pytest.mark.parametrize(
        "given_duration",
        [
            "",
            "P",
            "PT",
            "P1DT",
            "P1M",
            "P1Y",
            "PT1",
            "P1H",
            "P1S",
            "1H",
            "pt2m",
            "-PT2M",
            "PT-2M",
            "+PT2M",
            "PT.5S",
            "PT5.S",
            "PT1S1M",
            " PT2M",
            "PT2M\n",
            "PT٢M",
            "90",
            "P36525DT0.000001S",
            "P36526D",
            "P99999999999999999999D",
            "PT" + "9" * 5000 + "S",
            -1,
            -0.5,
            3_155_760_001,
            3_155_760_000.000_001,
            10**30,
            1e300,
            float("inf"),
            float("-inf"),
            float("nan"),
        ],
    )
    def test_anything_else_is_refused(self, given_duration):
        with pytest.raises(ValueError):
            parse_duration(given_duration)

    @pytest.mark.timeout(5)
    def test_absurdly_long_numbers_are_refused_at_once(self):
        with pytest.raises(ValueError):
            parse_duration("PT0." + "1" * 8_000_000 + "S")

    @given(durations)
    def test_seconds_with_microseconds_are_read_exactly(self, microseconds):
        seconds, rest = divmod(microseconds, 1_000_000)
        assert parse_duration(f"PT{seconds}.{rest:06d}S") == timedelta(microseconds=microseconds)

    @given(st.integers(0, 3_155_760_000_000))
    def test_number_of_seconds_means_its_decimal_digits(self, milliseconds):
        assert parse_duration(milliseconds / 1000) == timedelta(milliseconds=milliseconds)

    @given(st.integers(0, 500), st.integers(0, 6), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
    def test_parts_add_up(self, weeks, days, hours, minutes, seconds):
        text = f"P{weeks}W{days}DT{hours}H{minutes}M{seconds}S"
        assert parse_duration(text) == timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)

    def test_longest_is_a_hundred_years(self):
        assert timedelta(days=36_525) == MAX_DURATION


class TestTimeToRun:
    def test_instant_stands_for_itself(self):
        assert resolve(at(2026, 1, 1), at(2030, 1, 1)) == at(2026, 1, 1)

    def test_delay_counts_from_now(self):
        assert resolve(timedelta(minutes=2), at(2026, 1, 1)) == at(2026, 1, 1, 0, 2)

    @pytest.mark.parametrize("run_at", [MAX_INSTANT, MAX_INSTANT + 1, 2**63, MAX_DURATION * 2])
    def test_nothing_runs_after_2200(self, run_at):
        assert resolve(run_at, at(2100, 1, 1)) == MAX_INSTANT
