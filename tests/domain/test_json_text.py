"""JSON values: kept as they were given, compared by value, refused when a database could not hold them."""

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.json_text import UnstorableJson, json_document, json_value
from tests.json_values import equal_by_value

MIN_INT64, MAX_UINT64 = -(2**63), 2**64 - 1

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(MIN_INT64, MAX_UINT64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(2**70), 2**70).map(float)
    | texts
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4))


def nested(brackets: int, *, kind: str = "list") -> Any:
    value: Any = [] if kind == "list" else {}
    for _ in range(brackets - 1):
        value = [value] if kind == "list" else {"a": value}
    return value


def same_kept(one: Any, other: Any) -> bool:
    """Equal, with 1 and 1.0 (and 0.0 and -0.0, True and 1) told apart."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_kept(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same_kept, one, other))
    if isinstance(one, float):
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    return one == other


def shuffled_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: shuffled_keys(value[key]) for key in reversed(value)}
    return [shuffled_keys(item) for item in value] if isinstance(value, list) else value


def swapped_numbers(value: Any) -> Any:
    """The same value by the contract, its integral doubles and integers exchanged where that is exact."""
    if isinstance(value, dict):
        return {key: swapped_numbers(member) for key, member in value.items()}
    if isinstance(value, list):
        return [swapped_numbers(item) for item in value]
    if isinstance(value, float) and value.is_integer() and MIN_INT64 <= value <= MAX_UINT64:
        return int(value)
    if type(value) is int and int(float(value)) == value:
        return float(value)
    return value


class TestKept:
    @given(values)
    def test_value_comes_back_as_it_was_given(self, value):
        assert same_kept(json_value(json_document(value).text), value)

    @pytest.mark.parametrize(
        "value", [1, 1.0, -0.0, 0, 1e22, 1.5, 2**53 + 1, MAX_UINT64, MIN_INT64, True, "", [], {}, {"": None}, 5e-324]
    )
    def test_integers_stay_integers_and_doubles_stay_doubles(self, value):
        assert same_kept(json_value(json_document(value).text), value)

    def test_text_is_compact(self):
        assert json_document({"a": [1, {"b": "ä"}]}).text == '{"a":[1,{"b":"ä"}]}'

    @given(values)
    def test_texts_are_json_that_anyone_can_read(self, value):
        document = json_document(value)
        assert same_kept(json.loads(document.text), value)
        assert equal_by_value(json.loads(document.compared), value)


class TestCompared:
    @given(values)
    def test_key_order_and_the_writing_of_numbers_do_not_matter(self, value):
        compared = json_document(value).compared
        assert json_document(shuffled_keys(value)).compared == compared
        assert json_document(swapped_numbers(value)).compared == compared

    @given(values, values)
    def test_only_equal_values_are_equal(self, one, other):
        assert (json_document(one).compared == json_document(other).compared) == equal_by_value(one, other)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (1, 1.0),
            (0, -0.0),
            (0.0, -0.0),
            (2**53, 2.0**53),
            (2**63, 2.0**63),
            (MIN_INT64, -(2.0**63)),
            ([1, {"a": 2.0}], [1.0, {"a": 2}]),
            ({"a": 1, "b": 2}, {"b": 2.0, "a": 1.0}),
            (1e22, float(10**22)),
        ],
    )
    def test_equal(self, one, other):
        assert json_document(one).compared == json_document(other).compared

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (1, "1"),
            (1, True),
            (0, False),
            (None, False),
            (None, 0),
            ("", None),
            ([], {}),
            ([1, 2], [2, 1]),
            ({"a": None}, {}),
            (2**53 + 1, 2.0**53),
            (MAX_UINT64, 2.0**64),
            (1.5, 1),
            ("é", "e\u0301"),
            (1e22, 1.0000000000000002e22),
        ],
    )
    def test_not_equal(self, one, other):
        assert json_document(one).compared != json_document(other).compared

    def test_canonical_text_is_kept_only_where_it_differs(self):
        assert json_document({"a": [1, 1.5, "x"]}).canonical is None
        assert json_document({"a": [1.0]}).canonical == '{"a":[1]}'

    def test_huge_doubles_do_not_blow_up_the_canonical_text(self):
        document = json_document([1e300] * 1000)
        assert len(document.compared) == len(document.text)


class TestRefused:
    @pytest.mark.parametrize("kind", ["list", "dict"])
    def test_sixty_four_brackets_may_be_open(self, kind):
        value = nested(64, kind=kind)
        assert json_value(json_document(value).text) == value

    @pytest.mark.parametrize("value", [nested(65), nested(65, kind="dict"), [[1], {"a": nested(63)}], [nested(1000)]])
    def test_sixty_five_brackets_are_refused(self, value):
        with pytest.raises(UnstorableJson):
            json_document(value)

    def test_siblings_do_not_count_as_depth(self):
        json_document([nested(63), nested(63), *([{}] * 1000)])

    @pytest.mark.parametrize("value", ["\0", "a\0b", ["\0"], {"\0": 1}, {"a": {"b": ["\0"]}}, {"a\0": {}}])
    def test_null_character_is_refused_in_values_and_keys(self, value):
        with pytest.raises(UnstorableJson):
            json_document(value)

    @pytest.mark.parametrize("value", [2**64, -(2**63) - 1, 10**400, [{"a": 2**64}]])
    def test_integers_beyond_64_bits_are_refused(self, value):
        with pytest.raises(UnstorableJson):
            json_document(value)

    @pytest.mark.parametrize("value", [MAX_UINT64, MIN_INT64, [True] * 3, 1e308, "\u0001\uffff\U0010ffff"])
    def test_what_just_fits_is_taken(self, value):
        assert msgspec.json.decode(json_document(value).text) == value
