"""tiktoken: exact for any string, special tokens never read from text, nothing fetched."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.data_pipelines.tokenizers.tiktoken_ranks import TiktokenConfig, TiktokenTokenizer

BYTES = {bytes([byte]): byte for byte in range(256)}
RANKS = {**BYTES, b"th": 256, b"the": 257, b" the": 258}
CONFIG = TiktokenConfig(pattern=r" ?\w+| ?[^\s\w]+|\s+", special_tokens={"<|end|>": 300})
TOKENIZER = TiktokenTokenizer(CONFIG, RANKS)


@given(st.text())
def test_any_string_comes_back(text):
    assert TOKENIZER.decode(TOKENIZER.encode([text])) == [text]


@given(st.lists(st.integers(-9, 400)))
def test_any_codes_decode(codes):
    assert isinstance(TOKENIZER.decode([np.array(codes, np.int64)])[0], str)


def test_merges_are_used():
    assert TOKENIZER.encode(["the the"])[0].tolist() == [257, 258]


def test_a_special_token_in_a_text_is_spelt_out():
    assert TOKENIZER.encode(["<|end|>"])[0].max() < 256


def test_codes_are_int64_and_the_largest_id_counts():
    assert TOKENIZER.encode(["the"])[0].dtype == np.int64
    assert TOKENIZER.vocab_size == 301


def test_saved_and_loaded_is_the_same(tmp_path):
    TOKENIZER.save(tmp_path / "new" / "folder")
    loaded = TiktokenTokenizer.load(tmp_path / "new" / "folder")
    assert loaded.fingerprint == TOKENIZER.fingerprint
    assert loaded.encode(["the end"])[0].tolist() == TOKENIZER.encode(["the end"])[0].tolist()


@pytest.mark.parametrize(
    ("config", "ranks"),
    [
        (TiktokenConfig(pattern=r"\S+|\s+", special_tokens={"<|end|>": 300}), RANKS),
        (TiktokenConfig(pattern=CONFIG.pattern, special_tokens={"<|end|>": 301}), RANKS),
        (CONFIG, {**RANKS, b" the": 259}),
        (CONFIG, {**RANKS, b"at": 259}),
    ],
)
def test_everything_changes_the_fingerprint(config, ranks):
    assert TiktokenTokenizer(config, ranks).fingerprint != TOKENIZER.fingerprint


def test_anyones_file_with_its_description_beside(tmp_path):
    TOKENIZER.save(tmp_path)
    (tmp_path / "ranks.json").write_text(json.dumps({"pattern": CONFIG.pattern, "special_tokens": {"<|end|>": 300}}))
    assert TiktokenTokenizer.from_rank_file(tmp_path / "ranks.tiktoken").fingerprint == TOKENIZER.fingerprint


@pytest.mark.parametrize(
    ("description", "says"),
    [(None, "ranks.json is missing"), ('{"patern": ""}', "'patern'"), ("{}", "pattern"), ("[]", "JSON object")],
)
def test_a_description_that_does_not_fit(tmp_path, description, says):
    TOKENIZER.save(tmp_path)
    if description is not None:
        (tmp_path / "ranks.json").write_text(description)
    with pytest.raises(ValueError, match=says):
        TiktokenTokenizer.from_rank_file(tmp_path / "ranks.tiktoken")


@pytest.mark.parametrize(
    ("config", "ranks", "says"),
    [
        (CONFIG, {b"a": 0}, "no byte 0"),
        (CONFIG, {**RANKS, b"x y": 257}, "share an id"),
        (CONFIG, {**RANKS, b"x y": 1 << 40}, "not in"),
        (TiktokenConfig(pattern="(("), RANKS, "refuses the pattern"),
    ],
)
def test_parts_that_make_no_tokenizer(config, ranks, says):
    with pytest.raises(ValueError, match=says):
        TiktokenTokenizer(config, ranks)


@pytest.mark.parametrize("line", [b"dGhl", b"!! 3", b"dGhl x", b"\xff\xff 1"])
def test_a_damaged_line_is_named(tmp_path, line):
    TOKENIZER.save(tmp_path)
    path = tmp_path / "ranks.tiktoken"
    path.write_bytes(path.read_bytes() + line)
    with pytest.raises(ValueError, match="line 260 is no base64 and rank"):
        TiktokenTokenizer.load(tmp_path)


def test_other_ranks_than_described_are_refused(tmp_path):
    TOKENIZER.save(tmp_path)
    path = tmp_path / "ranks.tiktoken"
    path.write_bytes(path.read_bytes() + b"YXQ= 259\n")
    with pytest.raises(ValueError, match="is not what"):
        TiktokenTokenizer.load(tmp_path)


def test_an_encoding_by_name(monkeypatch):
    from tiktoken_ext import openai_public

    parts = {"name": "tiny", "pat_str": CONFIG.pattern, "mergeable_ranks": RANKS, "special_tokens": {"<|end|>": 300}}
    monkeypatch.setitem(openai_public.ENCODING_CONSTRUCTORS, "tiny", lambda: parts)
    assert TiktokenTokenizer.from_installed("tiny").fingerprint == TOKENIZER.fingerprint


def test_an_encoding_that_is_not_on_this_machine_is_not_fetched(monkeypatch, tmp_path):
    import requests

    fetched = []
    monkeypatch.setattr(requests, "get", fetched.append)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    with pytest.raises(ValueError, match="cl100k_base is not in tiktoken's cache"):
        TiktokenTokenizer.from_installed("cl100k_base")
    assert fetched == []


def test_an_unknown_encoding_is_named_with_the_known():
    with pytest.raises(ValueError, match="no encoding cl9; use one of cl100k_base, gpt2"):
        TiktokenTokenizer.from_installed("cl9")
