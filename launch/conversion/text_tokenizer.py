"""The text tokenizer as transformers' `AutoTokenizer` reads it."""

import json
import shutil
from pathlib import Path

from triptych.data_pipelines.tokenizers.text import FILE_NAME
from triptych.data_pipelines.tokenizers.tiktoken_ranks import RANKS_FILE, TiktokenTokenizer, read_ranks
from triptych.trainer.checkpoint.disk.files import write_text


def write_text_tokenizer(source: Path, folder: Path, longest: int) -> None:
    """`tokenizer.json` and `tokenizer_config.json`. longest: positions of a sequence.

    What looks like a special token in a text is one to AutoTokenizer, and letters to us; that is the one difference.
    """
    if (source / FILE_NAME).is_file():
        shutil.copyfile(source / FILE_NAME, folder / FILE_NAME)
    else:
        write_text(folder / FILE_NAME, _from_ranks(source).encode())
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": longest,
        "clean_up_tokenization_spaces": False,
        "add_bos_token": False,
        "add_eos_token": False,
    }
    write_text(folder / "tokenizer_config.json", (json.dumps(config, indent=2) + "\n").encode())


def _from_ranks(source: Path) -> str:
    """tiktoken's ranks as merges: each token of several bytes is made of the two that were joined last before it."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    config = TiktokenTokenizer.load(source).config
    ranks = read_ranks(source / RANKS_FILE)
    letters = _byte_letters()
    vocabulary = {_spelt(token, letters): rank for token, rank in ranks.items()}
    merges = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) > 1:
            merges += [tuple(_spelt(piece, letters) for piece in _pieces(token, rank, ranks))]
    pairs = [pair for pair in merges if len(pair) == 2]
    # tiktoken looks a whole piece up before it joins bytes, and ranks may hold pieces that no merges make.
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=True))
    split = pre_tokenizers.Split(Regex(config.pattern), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer.to_str()


def _pieces(token: bytes, rank: int, ranks: dict[bytes, int]) -> list[bytes]:
    """The token cut into what its bytes are joined to by all merges below its own rank."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        joined = [ranks.get(parts[i] + parts[i + 1], rank) for i in range(len(parts) - 1)]
        best = min(range(len(joined)), key=joined.__getitem__)
        if joined[best] >= rank:
            break
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return parts


def _spelt(token: bytes, letters: dict[int, str]) -> str:
    return "".join(letters[byte] for byte in token)


def _byte_letters() -> dict[int, str]:
    """GPT-2's letter for each byte: itself where it prints, else the next from U+0100 on."""
    printing = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printing]
    return {byte: chr(byte) for byte in printing} | {byte: chr(256 + i) for i, byte in enumerate(others)}
