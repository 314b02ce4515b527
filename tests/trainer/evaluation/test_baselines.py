import gzip
import math

import numpy as np
import pytest

from triptych.trainer.evaluation.baselines import (
    bits_per_byte,
    num_utf8_bytes,
    text_gzip_bits_per_byte,
    text_gzip_primed_bits_per_byte,
    text_unigram_bits_per_byte,
)


def test_the_unigram_model_smooths_by_one():
    train, validation = [np.array([0, 0, 1]), np.array([0])], [np.array([0, 2])]
    expected = -(math.log2(4 / 7) + math.log2(1 / 7)) / 5
    assert text_unigram_bits_per_byte(train, validation, num_outputs=3, num_bytes=5) == pytest.approx(expected)


def test_the_unigram_model_of_no_training_text_is_uniform():
    bits = text_unigram_bits_per_byte([], [np.arange(8)], num_outputs=8, num_bytes=8)
    assert bits == pytest.approx(3.0)


def test_a_code_outside_the_vocabulary_is_refused():
    with pytest.raises(ValueError, match="outside a vocabulary of 2"):
        text_unigram_bits_per_byte([np.array([5])], [np.array([0])], num_outputs=2, num_bytes=1)


def test_bytes_are_those_of_utf8():
    assert num_utf8_bytes(["ab", "é", ""]) == 4


def test_gzip_pays_its_whole_file():
    texts = ["the quick brown fox", "jumps over"]
    joined = "\n".join(texts).encode()
    assert text_gzip_bits_per_byte(texts) == pytest.approx(8 * len(gzip.compress(joined, 9)) / len(joined))


def test_the_training_text_primes_the_dictionary():
    text = "Pack my box with five dozen liquor jugs, said nobody at all."
    assert text_gzip_primed_bits_per_byte([text], [text]) < 0.5 * text_gzip_bits_per_byte([text])


def test_no_training_text_primes_nothing():
    assert text_gzip_primed_bits_per_byte([], ["some text"]) == text_gzip_bits_per_byte(["some text"])


def test_no_bytes_are_refused():
    with pytest.raises(ValueError, match="0 bytes"):
        bits_per_byte(1.0, 0)
