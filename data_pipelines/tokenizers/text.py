"""Text to codes with any file of the `tokenizers` library; ours are byte-level byte-pair encodings (Sennrich et al.
2016; bytes: Radford et al. 2019)."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as HuggingFaceTokenizer
from tokenizers import decoders, models, pre_tokenizers, trainers

from triptych.data_pipelines.vocabulary import Modality

FILE_NAME = "tokenizer.json"
_NUM_BYTES = 256


class TextTokenizer:
    """Any `tokenizer.json`: whatever its model, normalizer and pre-tokenizer. Implements `Tokenizer`.

    Text is only text: nothing is put before or after it, and what looks like a special token is spelt out. What a file
    asks for besides is left out, for it would lose text or give it other codes each time: truncation, padding, dropout
    of merges. A byte-level BPE, as `train` makes it, gives every string back exactly; a file that normalizes, strips,
    lowercases or has an unknown token does not (`round_trip.changed`).
    """

    def __init__(self, tokenizer: HuggingFaceTokenizer) -> None:
        written = json.loads(tokenizer.to_str())
        self._json = _canonical(written)
        if _canonical(_plain(written)) != self._json:
            self._json = _canonical(_plain(written))
            tokenizer = HuggingFaceTokenizer.from_str(self._json.decode())
        tokenizer.encode_special_tokens = True  # "<|endoftext|>" in a text is these letters, never the token
        self._tokenizer = tokenizer
        self._vocab_size = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Self:
        """Learn merges from texts; the same texts in the same order give the same tokenizer.

        vocab_size: at most this many codes (fewer if the texts run out of pairs). ValueError below 256, the bytes.
        """
        if vocab_size < _NUM_BYTES:
            raise ValueError(
                f"vocab_size={vocab_size} has no room for the {_NUM_BYTES} bytes; give {_NUM_BYTES} or more"
            )
        tokenizer = HuggingFaceTokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            show_progress=False,
            special_tokens=[],  # task and boundary tokens are the vocabulary's, not the tokenizer's
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer)

    @property
    def modality(self) -> Modality:
        return "text"

    @property
    def vocab_size(self) -> int:
        """One more than the largest id, special tokens included: a file may leave ids unused."""
        return self._vocab_size

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON: vocabulary, merges and how text is cut."""
        return hashlib.sha256(self._json).hexdigest()

    def encode(self, raw: Sequence[str]) -> list[NDArray[np.int64]]:
        """int64 [n] for each string. Strings must be valid Unicode (no lone surrogates)."""
        encodings = self._tokenizer.encode_batch_fast(list(raw), add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.int64) for encoding in encodings]

    def decode(self, codes: Sequence[NDArray[np.int64]]) -> list[str]:
        """The string of each code sequence; codes that are no whole UTF-8 character become U+FFFD."""
        return self._tokenizer.decode_batch([item.tolist() for item in codes], skip_special_tokens=False)

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` into a folder (created)."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE_NAME).write_bytes(self._json)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `tokenizer.json`, ours or anyone's. ValueError, naming the file, if it is missing or damaged."""
        return cls.read(folder / FILE_NAME)

    @classmethod
    def read(cls, path: Path) -> Self:
        """As `load`, from the file."""
        try:
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ValueError(f"{path} is missing; train the tokenizer again, or give its folder") from error
        try:
            return cls(HuggingFaceTokenizer.from_str(data.decode()))
        except Exception as error:  # the library raises bare Exception for anything that is wrong
            raise ValueError(f"{path} is damaged; train the tokenizer again") from error


def _plain(written: dict[str, Any]) -> dict[str, Any]:
    """The same without what cuts, fills or varies the codes of a text."""
    model = written["model"]
    return {
        **written,
        "truncation": None,
        "padding": None,
        "model": {**model, "dropout": None} if "dropout" in model else model,
    }


def _canonical(written: dict[str, Any]) -> bytes:
    """One spelling per tokenizer, whatever version of the library spaces or orders its JSON."""
    return json.dumps(written, sort_keys=True, separators=(",", ":")).encode()
