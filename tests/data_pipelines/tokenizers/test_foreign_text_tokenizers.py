"""Anyone's `tokenizer.json`: text is only text, and what does not come back is said."""

import json

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from triptych.data_pipelines.tokenizers.round_trip import changed
from triptych.data_pipelines.tokenizers.text import TextTokenizer

WORDS = ["[UNK]", "[CLS]", "[SEP]", "one", "two", "three", "o", "##n", "##e"]


def word_pieces():
    """As BERT's: lowercases, adds [CLS] and [SEP], cuts at 2 tokens, fills up to 8."""
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(["[UNK]", "[CLS]", "[SEP]"])
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=8)
    return tokenizer


def byte_level():
    """Every byte and one special token, far behind them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, [], dropout=0.5))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    return tokenizer


def test_nothing_is_added_cut_or_filled():
    (codes,) = TextTokenizer(word_pieces()).encode(["one two THREE"])
    assert codes.tolist() == [3, 4, 5]


@pytest.mark.parametrize("name", ["[CLS]", "[SEP]"])
def test_a_special_token_in_a_text_is_spelt_out(name):
    (codes,) = TextTokenizer(word_pieces()).encode([f"one {name} two"])
    assert not {1, 2} & set(codes.tolist())


def test_special_tokens_count_in_the_vocabulary():
    assert TextTokenizer(byte_level()).vocab_size == 257


def test_ids_may_be_left_unused():
    tokenizer = TextTokenizer(Tokenizer(models.WordLevel({"one": 3, "two": 9}, unk_token="one")))
    assert tokenizer.vocab_size == 10
    assert isinstance(tokenizer.decode([np.arange(10)])[0], str)


def test_merges_are_never_dropped_at_random():
    plain, dropping = byte_level(), byte_level()
    plain.model.dropout = None
    assert TextTokenizer(dropping).fingerprint == TextTokenizer(plain).fingerprint


@pytest.mark.parametrize("make", [word_pieces, byte_level])
def test_saved_and_loaded_is_the_same(tmp_path, make):
    tokenizer = TextTokenizer(make())
    tokenizer.save(tmp_path)
    assert TextTokenizer.load(tmp_path).fingerprint == tokenizer.fingerprint
    assert json.loads((tmp_path / "tokenizer.json").read_bytes())["truncation"] is None


def test_anyones_file_gives_the_same_tokenizer(tmp_path):
    word_pieces().save(str(tmp_path / "tokenizer.json"))
    assert TextTokenizer.load(tmp_path).fingerprint == TextTokenizer(word_pieces()).fingerprint


def test_byte_level_changes_no_text():
    assert changed(TextTokenizer(byte_level())) == []


def test_what_word_pieces_change_is_named():
    assert changed(TextTokenizer(word_pieces()), ["one two", "One", "one  two", "four"]) == ["One", "one  two", "four"]
