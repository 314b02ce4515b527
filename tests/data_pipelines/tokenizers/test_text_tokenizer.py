"""Byte-level BPE: exact for any string, the same for the same texts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.data_pipelines.tokenizers.text import TextTokenizer

TEXTS = [f"the digit {word} is written in this line of text" for word in ("three", "seven", "eight")] * 20
TOKENIZER = TextTokenizer.train(TEXTS, 300)


@given(st.text())
def test_any_string_comes_back(text):
    assert TOKENIZER.decode(TOKENIZER.encode([text])) == [text]


@pytest.mark.parametrize(
    "text", ["", " leading", "trailing ", "a\r\nb\x00", "don't", "<|endoftext|>", "[MASK]", "e\u0301", "日本 🙂"]
)
def test_awkward_strings_come_back(text):
    assert TOKENIZER.decode(TOKENIZER.encode([text])) == [text]


@given(st.lists(st.integers(0, 299)))
def test_any_codes_decode(codes):
    assert isinstance(TOKENIZER.decode([np.array(codes, np.int64)])[0], str)


def test_codes_are_int64_below_the_vocabulary_size():
    (codes,) = TOKENIZER.encode(["the digit three ÿ"])
    assert codes.dtype == np.int64
    assert codes.max() < TOKENIZER.vocab_size <= 300


def test_empty_string_has_no_codes():
    assert TOKENIZER.encode([""])[0].shape == (0,)


def test_frequent_words_become_one_code():
    assert len(TOKENIZER.encode([" digit"])[0]) == 1


def test_same_texts_give_the_same_fingerprint():
    assert TextTokenizer.train(TEXTS, 300).fingerprint == TOKENIZER.fingerprint


def test_other_texts_give_another_fingerprint():
    assert TextTokenizer.train(["other words entirely"] * 9, 300).fingerprint != TOKENIZER.fingerprint


def test_saved_and_loaded_is_the_same(tmp_path):
    TOKENIZER.save(tmp_path / "new" / "folder")
    loaded = TextTokenizer.load(tmp_path / "new" / "folder")
    assert loaded.fingerprint == TOKENIZER.fingerprint
    assert loaded.encode(TEXTS[:1])[0].tolist() == TOKENIZER.encode(TEXTS[:1])[0].tolist()


def test_vocabulary_without_room_for_the_bytes():
    with pytest.raises(ValueError, match=r"vocab_size=255 has no room for the 256 bytes"):
        TextTokenizer.train(TEXTS, 255)


def test_missing_file(tmp_path):
    with pytest.raises(ValueError, match=r"tokenizer.json is missing; train the tokenizer again"):
        TextTokenizer.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"model": {"type": "BPE"}}'])
def test_damaged_file(tmp_path, content):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"tokenizer.json is damaged; train the tokenizer again"):
        TextTokenizer.load(tmp_path)
