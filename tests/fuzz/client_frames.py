"""A grammar of what clients send over the stream: right messages, wrong ones, and what is none."""

import json
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.raw_socket import BINARY, PING, PONG, TEXT

MALFORMED, TOO_BIG = 4400, 1009
LIMIT = 1024 * 1024


class Raw(str):
    """JSON text that is sent as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Raw({str(self)[:20]!r}, {len(self)})"


@dataclass(repr=False)
class Plan:
    """One frame to send, its messages in the words of the grammar, and how the server must close after it."""

    opcode: int = TEXT
    payload: bytes | None = None
    messages: list[dict[str, Any]] = field(default_factory=list)
    is_list: bool = False
    pieces: int = 1
    closes: int | None = None

    def __repr__(self) -> str:
        payload = self.payload if self.payload is None or len(self.payload) < 200 else self.payload[:200] + b"..."
        return f"Plan({self.opcode}, {payload}, {self.messages}, {self.is_list}, {self.pieces}, {self.closes})"


DEEP = Raw("[" * 2_000 + "]" * 2_000)
DEEP_OBJECTS = Raw('{"a":' * 1_200 + "1" + "}" * 1_200)
ENDLESS = Raw("7" * 5_000)
junk = (
    st.sampled_from([DEEP, DEEP_OBJECTS, ENDLESS])
    | st.sampled_from(
        [
            *(
                None,
                True,
                0,
                -1,
                7.5,
                Raw("7.0"),
                2**63 - 1,
                2**63,
                -(2**63),
                2**64,
                10**400,
                Raw("1e400"),
                Raw("-1e999"),
            ),
            *("", "x" * 200, "\0", "😀", "7", [], {}, [[]], {"type": "stop"}),
        ]
    )
    | st.text(st.characters(codec="utf-8"), max_size=5)
)
ids = st.sampled_from(["held", "held", "held", "absent"]) | st.integers(-(2**63), 2**63 - 1)
fences = st.sampled_from(["its", "its", "its", "former"]) | st.integers(0, 2**63 - 1)
failures = st.fixed_dictionaries(
    {
        "error_type": st.sampled_from(["panic", "\0", "x" * 300]),
        "message": st.text(st.characters(codec="utf-8"), max_size=9),
    }
)
times = st.sampled_from(
    [
        {"delay": 0},
        {"delay": "PT1S"},
        {"delay": 1e300},
        {"next_scheduled_at": "2030-01-01T00:00:00Z"},
        {"next_scheduled_at": "9999-12-31T23:59:59Z"},
        {"next_scheduled_at": "2030-01-01"},
        {},
    ]
)


def _marks(name: str, **members: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Acknowledgements of a kind; ``ref`` is put in when they are sent."""
    return st.fixed_dictionaries(
        {"type": st.just(name), "id": ids, "fence": fences, **members}, optional={"ref": st.just("")}
    )


def _flat(message: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name != "time"} | message.get("time", {})


right = st.one_of(
    st.fixed_dictionaries({"type": st.just("request"), "n": st.integers(0, 3) | st.just(2**62)}),
    st.fixed_dictionaries({"type": st.just("stop")}, optional={"ref": st.just("")}),
    st.just({"type": "heartbeat"}),
    *(_marks(name) for name in ("complete", "release")),
    *(_marks(name, error=failures) for name in ("discard", "cancel")),
    _marks("retry", error=failures, time=times).map(_flat),
    _marks("snooze", time=times).map(_flat),
)
members = st.sampled_from(["type", "id", "fence", "n", "error", "delay", "ref", "colour", "next_scheduled_at", ""])
wrong = st.builds(
    lambda message, name, value, dropped: {
        each: content for each, content in (message | {name: value}).items() if each not in dropped
    },
    right,
    members,
    junk,
    st.sets(st.sampled_from(["type", "id", "fence", "error"]), max_size=1),
).filter(lambda message: message.get("ref", "") in ("", "x" * 200) or not isinstance(message["ref"], str))
messages = right | wrong
message_frames = st.builds(Plan, messages=messages.map(lambda one: [one]), pieces=st.integers(1, 3)) | st.builds(
    Plan,
    messages=st.lists(messages, max_size=6) | messages.map(lambda one: [one, one]),
    is_list=st.just(True),
    pieces=st.integers(1, 3),
)


def _is_no_message(text: str) -> bool:
    try:
        value = json.loads(text, parse_constant=lambda _: 1 / 0)
    except (ValueError, ZeroDivisionError, RecursionError):
        return True
    each = value if isinstance(value, list) else [value]
    return not all(isinstance(one, dict) for one in each)


MALFORMED_PAYLOADS = [
    *(b"", b"nope", b"7", b'"a"', b"null", b"[1]", b"[[]]", b"[{},7]", b"{}{}", b'{"a":NaN}', b"[Infinity]"),
    *(b'{"type":"stop","ref":"\xff"}', b"\xed\xa0\x80", b"\xef\xbb\xbf{}", b'{"a":"\\ud800"}', b'{"a":"\n"}'),
    *(b"[" * 3_000, b"[" * 3_000 + b"]" * 3_000, b'{"a":' * 3_000, b'{"type":"request","n":1', b"{'a':1}"),
]
OVERSIZED_PAYLOADS = [b" " * (LIMIT + 1), b'{"type":"stop","ref":"' + b"x" * LIMIT + b'"}']
# By their numbers: hypothesis shows what its strategies are made of.
malformed = st.integers(0, len(MALFORMED_PAYLOADS) - 1).map(lambda number: MALFORMED_PAYLOADS[number]) | st.text(
    st.characters(codec="utf-8"), max_size=20
).filter(_is_no_message).map(str.encode)
oversized = st.sampled_from([0, 1]).map(lambda number: OVERSIZED_PAYLOADS[number])
endings = st.one_of(
    st.builds(Plan, payload=malformed, closes=st.just(MALFORMED), pieces=st.integers(1, 2)),
    st.builds(
        Plan, opcode=st.just(BINARY), payload=st.sampled_from([b"", b"{}", b"\0" * 99]), closes=st.just(MALFORMED)
    ),
    st.builds(
        Plan,
        payload=oversized,
        closes=st.just(TOO_BIG),
        pieces=st.integers(1, 2),
    ),
)
harmless = st.builds(Plan, opcode=st.sampled_from([PING, PONG]), payload=st.binary(max_size=125))
conversations = st.tuples(
    st.lists(message_frames | message_frames | message_frames | harmless, max_size=8), st.none() | st.none() | endings
)


def text_of(value: Any) -> str:
    """Write JSON, with what is raw as it is."""
    match value:
        case Raw():
            return str(value)
        case dict():
            return "{" + ",".join(f"{json.dumps(name)}:{text_of(each)}" for name, each in value.items()) + "}"
        case list():
            return "[" + ",".join(map(text_of, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
