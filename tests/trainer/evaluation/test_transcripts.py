import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.data_pipelines.corpus.words import DIGIT_WORDS
from triptych.trainer.evaluation.transcripts import character_error, edit_distance, named_digit

short = st.text(alphabet="abcß\U0001f600 ", max_size=12)


@pytest.mark.parametrize("digit", range(10))
def test_a_word_or_a_numeral_names_its_digit(digit):
    texts = (DIGIT_WORDS[digit], str(digit), f"The {DIGIT_WORDS[digit].upper()}.", f"a scan of a_{digit}, ({digit})")
    assert [named_digit(text) for text in texts] == [digit] * 4


@pytest.mark.parametrize("text", ["", "someone", "13", "thre", "two or three", "2 three", "\x00\ud800"])
def test_no_digit_or_two_name_none(text):
    assert named_digit(text) is None


@given(first=short, second=short)
def test_the_distance_is_symmetric_and_zero_only_for_equals(first, second):
    assert edit_distance(first, second) == edit_distance(second, first)
    assert (edit_distance(first, second) == 0) == (first == second)


@given(first=short, second=short, third=short)
def test_the_distance_obeys_the_triangle(first, second, third):
    assert edit_distance(first, third) <= edit_distance(first, second) + edit_distance(second, third)


@settings(max_examples=50)
@given(first=short, second=short)
def test_the_distance_equals_its_recursive_definition(first, second):
    def slow(i: int, j: int, seen: dict[tuple[int, int], int]) -> int:
        if not i or not j:
            return i + j
        if (i, j) not in seen:
            replaced = slow(i - 1, j - 1, seen) + (first[i - 1] != second[j - 1])
            seen[i, j] = min(replaced, 1 + slow(i - 1, j, seen), 1 + slow(i, j - 1, seen))
        return seen[i, j]

    assert edit_distance(first, second) == slow(len(first), len(second), {})


def test_errors_are_pooled_over_pairs():
    assert character_error([("three", "tree"), ("a nine", "a nine"), ("", "xx")]) == pytest.approx(3 / 11)


@given(texts=st.lists(short.filter(bool), min_size=1, max_size=4))
def test_a_perfect_transcript_has_no_error(texts):
    assert character_error(zip(texts, texts, strict=True)) == 0


def test_nothing_to_read_has_no_error_rate():
    assert character_error([]) is None
