"""What a command prints: data on stdout, what is said to people on stderr, and nothing that steers a terminal."""

import os
import sys
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

_GAP = "  "
_LEAST_WIDTH = 12


def print_json(value: Any) -> None:
    """Print one JSON document on a line."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def tell(message: str) -> None:
    """Say something to a person: on stderr, which is not part of the data."""
    sys.stdout.flush()
    print(message, file=sys.stderr)


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """Print rows under headings, or tell that there are none; only for a terminal the last column is cut short."""
    if not rows:
        tell(empty)
        return
    is_terminal = sys.stdout.isatty()
    lines = table_lines(headings, rows, width=_terminal_width() if is_terminal else None)
    if is_terminal and not os.environ.get("NO_COLOR"):
        lines[0] = f"\x1b[1m{lines[0]}\x1b[0m"
    print("\n".join(lines))


def table_lines(headings: Sequence[str], rows: Sequence[Sequence[object]], *, width: int | None) -> list[str]:
    """Return a table's lines; a column of numbers stands to the right."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(map(width_of, column)) for column in zip(headings, *cells, strict=True)]
    if width is not None:
        taken = sum(widths[:-1]) + len(_GAP) * (len(widths) - 1)
        widths[-1] = min(widths[-1], max(width - taken, _LEAST_WIDTH))
    right = [all(isinstance(row[index], int) for row in rows) for index in range(len(headings))]
    return [
        _GAP.join(
            _padded(cut(cell, limit), limit, to_the_right=numeric)
            for cell, limit, numeric in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in [headings, *cells]
    ]


def printable(text: str) -> str:
    """Return a text with what would steer a terminal, or hide in it, written out: it may be anybody's."""
    return "".join(character if _is_harmless(character) else f"\\u{ord(character):04x}" for character in text)


def printable_lines(text: str) -> str:
    """Return a text of several lines, each of them printable."""
    return "\n".join(map(printable, text.expandtabs(4).split("\n")))


def width_of(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return sum(_columns(character) for character in text)


def cut(text: str, width: int) -> str:
    """Return what of a text fits, with a mark where something is missing."""
    if width_of(text) <= width:
        return text
    kept, room = [], width - 1
    for character in text:
        room -= _columns(character)
        if room < 0:
            break
        kept.append(character)
    return "".join(kept) + "…"


def json_text(value: Any, *, length: int | None = None) -> str:
    """Return JSON on one line; of a long one the beginning."""
    text = msgspec.json.encode(value).decode()
    return text if length is None else cut(text, length)


def time_text(moment: datetime | None) -> str:
    """Return a time to the second, in UTC."""
    return "" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"


def _terminal_width() -> int:
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or 80
    except OSError:
        return 80


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _is_harmless(character: str) -> bool:
    """Whether it is no control character, and none that turns the direction of writing."""
    return character.isprintable() or (unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Zl", "Zp"})


def _padded(text: str, width: int, *, to_the_right: bool) -> str:
    padding = " " * (width - width_of(text))
    return padding + text if to_the_right else text + padding
