"""What is printed: columns that stand under each other, and nothing that steers a terminal."""

from datetime import datetime, timedelta, timezone

import pytest

from rexecutor_client.commands.text import cut, printable, printable_lines, table_lines, time_text, width_of

HEADINGS = ("NAME", "COUNT", "DATA")


def test_columns_stand_under_their_headings_and_numbers_to_the_right():
    assert table_lines(HEADINGS, [("ada", 7, "x"), ("bartholomew", 1_000, "y")], width=None) == [
        "NAME         COUNT  DATA",
        "ada              7  x",
        "bartholomew   1000  y",
    ]


def test_last_column_is_cut_to_the_width_of_the_terminal():
    lines = table_lines(HEADINGS, [("ada", 7, "d" * 100)], width=40)
    assert [*map(width_of, lines)] == [17, 40]
    assert lines[1].endswith("d…")


def test_narrow_terminal_still_shows_some_of_the_last_column():
    assert table_lines(HEADINGS, [("a" * 50, 7, "d" * 100)], width=40)[1].endswith("  " + "d" * 11 + "…")


def test_nothing_is_cut_where_there_is_no_terminal():
    assert table_lines(HEADINGS, [("ada", 7, "d" * 1_000)], width=None)[1].endswith("d" * 1_000)


def test_wide_characters_take_two_columns():
    lines = table_lines(("A", "B"), [("日本", "x"), ("abcd", "y")], width=None)
    assert lines[1:] == ["日本  x", "abcd  y"]


@pytest.mark.parametrize(("width", "kept"), [(4, "日本"), (3, "日…"), (2, "…"), (1, "…")])
def test_wide_characters_are_not_cut_through(width, kept):
    assert cut("日本", width) == kept


@pytest.mark.parametrize("character", ["\x1b", "\x07", "\x9b", "\r", "\n", "\u202e", "\u2028"])
def test_characters_that_steer_a_terminal_are_written_out(character):
    assert printable(f"a{character}b") == f"a\\u{ord(character):04x}b"


def test_several_lines_stay_lines():
    assert printable_lines("one\n\ttwo\x1b[31m") == "one\n    two\\u001b[31m"


def test_ordinary_text_is_left_alone():
    assert printable("naïve – 日本 🎉\u00a0€") == "naïve – 日本 🎉\u00a0€"


def test_times_are_shown_in_utc():
    assert time_text(datetime(2026, 11, 26, 18, 0, 5, tzinfo=timezone(timedelta(hours=1)))) == "2026-11-26 17:00:05Z"
    assert time_text(None) == ""
