"""Text to codes: byte-level byte-pair encoding (Sennrich et al. 2016; bytes: Radford et al. 2019), by the `tokenizers`
library."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as HuggingFaceTokenizer
from tokenizers import decoders, models, pre_tokenizers, trainers

from triptych.data_pipelines.vocabulary import Modality

FILE_NAME = "tokenizer.json"
_NUM_BYTES = 256


class TextTokenizer:
    """Byte-level BPE. Any string comes back exactly, whatever the vocabulary was trained on. Implements `Tokenizer`."""

    def __init__(self, tokenizer: HuggingFaceTokenizer) -> None:
        self._tokenizer = tokenizer
        self._json = _canonical(tokenizer)

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
        return self._tokenizer.get_vocab_size()

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
        """Read what `save` wrote. ValueError, naming the file, if it is missing or damaged."""
        path = folder / FILE_NAME
        try:
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ValueError(f"{path} is missing; train the tokenizer again, or give its folder") from error
        try:
            return cls(HuggingFaceTokenizer.from_str(data.decode()))
        except Exception as error:  # the library raises bare Exception for anything that is wrong
            raise ValueError(f"{path} is damaged; train the tokenizer again") from error


def _canonical(tokenizer: HuggingFaceTokenizer) -> bytes:
    """One spelling per tokenizer, whatever version of the library spaces or orders its JSON."""
    return json.dumps(json.loads(tokenizer.to_str()), sort_keys=True, separators=(",", ":")).encode()
