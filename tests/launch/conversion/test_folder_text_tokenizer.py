"""The text tokenizer of a folder gives AutoTokenizer's users the codes that the run has."""

import itertools

import pytest

from triptych.data_pipelines.tokenizers.round_trip import AWKWARD_TEXTS
from triptych.data_pipelines.tokenizers.text import TextTokenizer
from triptych.data_pipelines.tokenizers.tiktoken_ranks import TiktokenConfig, TiktokenTokenizer
from triptych.launch.conversion.text_tokenizer import write_text_tokenizer

WORDS = "the list holds a value and the value holds the list; it's 3.14, naïve 日本 \n\n  there "
PATTERN = r"\p{L}+| ?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+"


def ranks(text):
    """Byte pairs joined greedily: all bytes, then the commonest neighbours."""
    made = {bytes([i]): i for i in range(256)}
    pieces = [[bytes([byte]) for byte in word.encode()] for word in text.split(" ") for _ in range(2)]
    for _ in range(60):
        counts = {}
        for piece in pieces:
            for pair in itertools.pairwise(piece):
                counts[pair] = counts.get(pair, 0) + 1
        if not counts:
            break
        best = max(sorted(counts), key=counts.__getitem__)
        made.setdefault(b"".join(best), len(made))
        for piece in pieces:
            for i in range(len(piece) - 2, -1, -1):
                if i + 1 < len(piece) and (piece[i], piece[i + 1]) == best:
                    piece[i : i + 2] = [b"".join(best)]
    return made


@pytest.fixture
def tiktoken():
    return TiktokenTokenizer(TiktokenConfig(pattern=PATTERN), ranks(WORDS))


@pytest.fixture
def bpe():
    return TextTokenizer.train([WORDS], 300)


@pytest.mark.parametrize("kind", ["tiktoken", "bpe"])
def test_codes_and_texts_are_the_same(request, tmp_path, kind):
    from transformers import AutoTokenizer

    tokenizer = request.getfixturevalue(kind)
    tokenizer.save(tmp_path / "source")
    (tmp_path / "folder").mkdir()
    write_text_tokenizer(tmp_path / "source", tmp_path / "folder", longest=28)
    found = AutoTokenizer.from_pretrained(tmp_path / "folder")
    assert found.model_max_length == 28
    for text in [WORDS, *AWKWARD_TEXTS]:
        (codes,) = tokenizer.encode([text])
        assert found(text, add_special_tokens=False)["input_ids"] == codes.tolist(), text
        assert found.decode(codes) == text


def test_a_piece_that_no_merges_make_is_one_code_as_tiktoken_has_it(tmp_path):
    from transformers import AutoTokenizer

    whole = {bytes([i]): i for i in range(256)} | {b"abc": 256}
    tokenizer = TiktokenTokenizer(TiktokenConfig(pattern=PATTERN), whole)
    tokenizer.save(tmp_path / "source")
    (tmp_path / "folder").mkdir()
    write_text_tokenizer(tmp_path / "source", tmp_path / "folder", longest=28)
    found = AutoTokenizer.from_pretrained(tmp_path / "folder")
    for text in ("abc", "xabc", "abc abc"):
        assert found(text, add_special_tokens=False)["input_ids"] == tokenizer.encode([text])[0].tolist(), text
