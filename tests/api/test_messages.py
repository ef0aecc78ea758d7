"""Every message of a frame is answered by its own name, whatever it or its neighbours hold."""

import pytest

from app.api.messages import Refused, StopMessage, decode_frame

DEEP = "[" * 2_000 + "]" * 2_000


@pytest.mark.parametrize(
    "excess", [DEEP, f'{{"b":{DEEP}}}', "7" * 5_000, "-" + "7" * 5_000, "1e400", "[" * 70 + "]" * 70]
)
def test_excess_in_one_message_leaves_the_others_and_all_names(excess):
    first, second, third = decode_frame(
        f'[{{"type":"stop","ref":"one"}},{{"type":"complete","id":7,"ref":"two","a":{excess}}},{{"type":"stop","ref":"three"}}]'
    )
    assert (first, third) == (StopMessage(ref="one"), StopMessage(ref="three"))
    assert isinstance(second, Refused)
    assert (second.ref, second.id) == ("two", 7)


def test_excess_is_never_taken_for_a_value():
    for name in ("type", "ref", "id", "fence", "delay", "error", "n"):
        members = {"type": '"snooze"', "id": "1", "fence": "1", "delay": "1", name: DEEP}
        (message,) = decode_frame("{" + ",".join(f'"{each}":{value}' for each, value in members.items()) + "}")
        assert isinstance(message, Refused), name
