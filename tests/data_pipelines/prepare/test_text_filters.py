"""Every rule for texts, with a text just inside and one just outside."""

import pytest
from prepare_inputs import documents

from triptych.data_pipelines.prepare.duplicates.words import WordReader
from triptych.data_pipelines.prepare.filters.text import (
    TextFilterConfig,
    bad_length,
    bad_text,
    repeated_lines,
    repeated_words,
)

CONFIG = TextFilterConfig(min_characters=4, max_characters=2000)
READER = WordReader()
LINES = documents(20, num_words=8)
WORDS = documents(1, num_words=100)[0].split()


def judged(text):
    return bad_length(text, CONFIG) or bad_text(text, READER.words(text), CONFIG)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("word", None),
        ("wor", "text too short"),
        (" \n\t ", "text too short"),
        ("w" * 2000, None),
        ("w" * 2001, "text too long"),
        ("ab 12", None),
        ("ab 123", "few letters"),
        ("ÄÖ漢字 1234", None),
        ("w" * 999 + "\x00", None),
        ("w" * 998 + "\x00", "control characters"),
        ("w" * 998 + "\ufffd", "control characters"),
        ("tabs\tand\r\nlines\f are fine", None),
    ],
)
def test_length_letters_and_control_characters(text, reason):
    assert judged(text) == reason


def test_repeated_lines_by_number():
    inside, outside = ["short"] * 4 + LINES[:6], ["short"] * 4 + LINES[:5]
    assert repeated_lines("\n\n".join(inside))[0] == pytest.approx(0.3)
    assert (judged("\n".join(inside)), judged("\n".join(outside))) == (None, "repeated lines")


def test_repeated_lines_by_their_characters():
    lines = [f"{i:02d}" + "abcdefgh" * (1 + i) for i in range(4)]
    long = "q" * 40
    assert repeated_lines("\n".join([long, long, *lines, "z" * 36]))[1] == pytest.approx(40 / 204)
    assert judged("\n".join([long, long, *lines, "z" * 36])) is None
    assert judged("\n".join([long, long, *lines, "z" * 31])) == "repeated lines"


def test_repeated_runs_of_words():
    inside, outside = [*WORDS[:34], *WORDS[:6]], [*WORDS[:33], *WORDS[:6]]
    assert repeated_words(READER.words(" ".join(inside))) == 0.15
    assert (judged(" ".join(inside)), judged(" ".join(outside))) == (None, "repeated words")


def test_four_words_are_no_run():
    assert repeated_words(READER.words("one two three four five, one two three four six")) == 0


@pytest.mark.parametrize("bounds", [{"min_characters": 0}, {"min_characters": 9, "max_characters": 8}])
def test_bounds_that_are_no_range(bounds):
    with pytest.raises(ValueError, match="no range from 1; give other bounds"):
        TextFilterConfig(**bounds)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, HELLO hello!", 3),
        ("漢字かな", 4),
        ("Tür und Tor, 42", 4),
        ("don't", 2),
        ("", 0),
        ("...", 0),
        ("a漢b", 3),
    ],
)
def test_words_are_cut(text, words):
    assert len(READER.words(text).hashes_W) == words


def test_a_word_has_one_hash_wherever_it_stands():
    hashes = [READER.words(text).hashes_W.tolist() for text in ("Straße weit weg", "x" * 5000 + " weit STRASSE", "weg")]
    assert (hashes[0][0], hashes[0][1], hashes[0][2]) == (hashes[1][2], hashes[1][1], hashes[2][0])
    assert len(set(hashes[0] + hashes[1])) == 4
