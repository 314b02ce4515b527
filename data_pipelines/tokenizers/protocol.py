"""What every tokenizer offers, whatever is behind it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from triptych.data_pipelines.vocabulary import Modality


class Tokenizer(Protocol):
    """Raw data of one modality to integer codes and back.

    Raw is `str` for text; uint8 [height, width] or [height, width, 3] for image; float32 [samples] in -1..1 for audio.
    Codes are int64 [n] in 0..vocab_size-1. `fingerprint` is a hex digest of everything that decides the codes
    (vocabulary, weights, preprocessing): two tokenizers with one fingerprint give the same codes.
    """

    @property
    def modality(self) -> Modality: ...

    @property
    def vocab_size(self) -> int: ...

    @property
    def fingerprint(self) -> str: ...

    def encode(self, raw: Sequence[Any]) -> list[NDArray[np.int64]]:
        """Codes of each item."""
        ...

    def decode(self, codes: Sequence[NDArray[np.int64]]) -> list[Any]:
        """The raw item of each code sequence."""
        ...

    def save(self, folder: Path) -> None:
        """Write everything into a folder (created), without pickle."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote. ValueError, naming the file, if it is missing or damaged."""
        ...


def fingerprints_of(tokenizers: Mapping[Modality, Tokenizer]) -> dict[Modality, str]:
    """Of each tokenizer the fingerprint, which says as much about codes and weighs nothing."""
    return {modality: tokenizer.fingerprint for modality, tokenizer in tokenizers.items()}
