"""What a file says of itself comes to a terminal as one harmless line of bounded length, and only there is changed."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.data_pipelines.shards.errors import DamagedSample, shown


@given(st.text(st.characters(exclude_categories=()), max_size=300), st.integers(2, 200))
def test_any_text_is_one_printable_line(text, most):
    line = shown(text, most)
    assert line.isprintable()
    assert len(line) <= most
    assert shown(line, most) == line
    assert line.encode().decode() == line


@pytest.mark.parametrize("text", ["", "000012", "Größe 3 µm", "日本/語.txt", "back\\slash"])
def test_words_that_can_be_shown_stay(text):
    assert shown(text) == text


def test_escape_sequences_and_halves_of_characters_are_spelt():
    assert shown("a\x1b[31m\n\u202e\ud800") == r"a\x1b[31m\n\u202e\ud800"


def test_a_damaged_sample_is_harmless_and_stays_so_on_its_way():
    error = DamagedSample("\x1b]0;" + "k" * 5000, "image", "the chunk \x07 " + "d" * 5000)
    again = pickle.loads(pickle.dumps(error))
    assert str(error).isprintable() and len(str(error)) < 700
    assert str(error).endswith("; replace it, or raise max_damaged to skip more of them")
    assert (again.key, again.reason, again.detail, str(again)) == (error.key, error.reason, error.detail, str(error))
