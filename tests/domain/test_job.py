"""What is recorded of a worker's failure: always something, never too much."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.job import ExecutionError, JobChanges, cut_text, storable_error
from app.domain.json_text import NULL

characters = st.characters(exclude_categories=["Cs"])


class TestCutText:
    @given(st.text(characters, max_size=60), st.integers(20, 80))
    def test_result_fits_and_is_a_prefix_with_a_marker(self, text, max_bytes):
        cut = cut_text(text, max_bytes)
        assert len(cut.encode()) <= max_bytes
        if len(text.encode()) <= max_bytes:
            assert cut == text
        else:
            assert cut.endswith("… (cut)")
            assert text.startswith(cut.removesuffix("… (cut)"))

    @pytest.mark.parametrize("letter", ["x", "ä", "€", "🦀"])
    def test_cut_never_splits_a_character_and_wastes_less_than_one(self, letter):
        for max_bytes in range(30, 40):
            cut = cut_text(letter * 40, max_bytes)
            assert set(cut.removesuffix("… (cut)")) == {letter}
            assert max_bytes - len(cut.encode()) < len(letter.encode())

    @pytest.mark.parametrize("letter", ["x", "ä", "€", "🦀"])
    def test_text_that_just_fits_is_left_alone(self, letter):
        text = letter * 100
        size = len(text.encode())
        assert cut_text(text, size) == text
        assert cut_text(text, size - 1) != text


class TestStorableError:
    def test_ordinary_error_is_recorded_as_it_is(self):
        error = ExecutionError("panic", "line 1\nline 2\t🦀")
        assert storable_error(error) == error

    @given(st.text(characters, max_size=200), st.text(characters, max_size=200))
    def test_whatever_it_looks_like_it_can_be_stored(self, error_type, message):
        stored = storable_error(ExecutionError(error_type, message))
        assert "\0" not in stored.error_type + stored.message
        assert len(stored.error_type) <= 128
        assert stored.message == message.replace("\0", "\ufffd")

    def test_error_type_is_cut_at_128_characters_not_bytes(self):
        assert storable_error(ExecutionError("🦀" * 200, "")).error_type == "🦀" * 128

    @pytest.mark.parametrize("letter", ["x", "🦀", "\0"])
    def test_message_is_cut_at_64_kib_with_the_marker_included(self, letter):
        message = storable_error(ExecutionError("panic", letter * 100_000)).message
        assert 64 * 1024 - 4 < len(message.encode()) <= 64 * 1024
        assert message.endswith("… (cut)")


class TestChanges:
    def test_nothing_given_is_empty(self):
        assert JobChanges().is_empty

    @pytest.mark.parametrize(
        "changes",
        [
            JobChanges(data=NULL),
            JobChanges(metadata=NULL),
            JobChanges(tags=()),
            JobChanges(priority=0),
            JobChanges(scheduled_at=0),
            JobChanges(max_attempts=1),
        ],
    )
    def test_falsy_members_are_changes_too(self, changes):
        assert not changes.is_empty
