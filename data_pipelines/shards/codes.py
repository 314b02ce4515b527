"""Codes as members of samples (`.text.npy`, `.image.npy`, `.audio.npy`), and all codes of a set at once.

`load_codes` is for sets that fit into memory, such as the demo's: four bytes a code. Larger sets read the samples that
are wanted (`ShardSet.read_codes`), which needs no memory to speak of.
"""

import io
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.data_pipelines.shards.decode import decode_json
from triptych.data_pipelines.shards.errors import DamagedSample
from triptych.data_pipelines.vocabulary import Modality

_NARROW = 1 << 16  # vocabularies up to here are stored in two bytes a code
# Matched with what `np.save` writes rather than evaluated: nothing in it can be costly.
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '<(u2|i4)', 'fortran_order': False, 'shape': \(([0-9]{1,15}),\), \} *\n", re.DOTALL
)
_MAX_HEADER_BYTES = 256
_UNSIGNED = {2: np.uint16, 4: np.uint32}


@dataclass(kw_only=True, slots=True, frozen=True)
class Codes:
    """Codes of one modality: item i is `flat[offsets[i]:offsets[i + 1]]`.

    flat: int32 [codes]. offsets: int64 [items + 1].
    """

    flat: NDArray[np.int32]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of items."""
        return len(self.offsets) - 1

    def item(self, index: int) -> NDArray[np.int32]:
        """Codes of one item, a view."""
        return self.flat[self.offsets[index] : self.offsets[index + 1]]


def code_extension(modality: Modality) -> str:
    """The extension of a member that holds codes."""
    return f"{modality}.npy"


def pack_codes(codes: NDArray[np.int64], vocab_size: int) -> bytes:
    """A `.npy` file: uint16 where the vocabulary allows, else int32. codes: [n], in 0..vocab_size-1."""
    assert codes.ndim == 1 and (len(codes) == 0 or (codes.min() >= 0 and codes.max() < vocab_size)), (
        "codes out of range"
    )
    buffer = io.BytesIO()
    np.save(buffer, codes.astype(np.uint16 if vocab_size <= _NARROW else np.int32), allow_pickle=False)
    return buffer.getvalue()


def unpack_codes(key: str, data: bytes | memoryview, vocab_size: int | None = None) -> NDArray[np.int32]:
    """int32 [n], from what `pack_codes` made. vocab_size: codes must be below it.

    DamagedSample if it is anything else.
    """
    start = 10 + int.from_bytes(data[8:10], "little")
    dtype, count = _header(bytes(data[: min(start, _MAX_HEADER_BYTES)]))
    if dtype is None:
        raise DamagedSample(key, "codes", "the codes are no array of uint16 or int32")
    if len(data) != start + count * dtype.itemsize:
        raise DamagedSample(key, "codes", f"the codes are not the {count} that their header promises")
    codes = np.frombuffer(data, dtype, offset=start)
    # As unsigned numbers, negative ones are the largest.
    if vocab_size is not None and count and codes.view(_UNSIGNED[dtype.itemsize]).max() >= vocab_size:
        raise DamagedSample(
            key, "codes", f"a code is not in 0..{vocab_size - 1}, what the manifest says of the tokenizer"
        )
    return codes.astype(np.int32)


def load_codes(folder: str | Path, modality: Modality) -> Codes:
    """All codes of a modality, in the order of the samples.

    ValueError if the folder is damaged, holds no such codes, or has a sample without; DamagedSample (a ValueError too)
    for codes that are damaged.
    """
    from triptych.data_pipelines.shards.reader import ShardSet  # which reads codes itself, with what is above

    shards = ShardSet.open(folder)
    promised = shards.manifest.num_codes(modality)
    items: list[NDArray[np.int32]] = []
    num_codes = 0
    for key, data in shards.members(code_extension(modality)):
        if data is None:
            raise ValueError(f"{folder}: {key} has no {modality} codes; encode the shards with that tokenizer")
        items.append(unpack_codes(key, data))
        num_codes += len(items[-1])
        if num_codes > promised:
            raise ValueError(f"{folder} holds more {modality} codes than its manifest says; encode the shards again")
    if num_codes != promised:
        raise ValueError(f"{folder} holds fewer {modality} codes than its manifest says; encode the shards again")
    offsets = np.cumsum([0, *map(len, items)], dtype=np.int64)
    return Codes(flat=np.concatenate([np.zeros(0, np.int32), *items]), offsets=offsets)


def load_labels(folder: str | Path) -> list[dict[str, object]]:
    """The `.json` of every sample, in their order; {} where there is none. For sets that fit into memory."""
    from triptych.data_pipelines.shards.reader import ShardSet

    labels = ShardSet.open(folder).members("json")
    return [{} if data is None else decode_json(key, data) for key, data in labels]


@lru_cache(maxsize=4096)
def _header(data: bytes) -> tuple[np.dtype[Any] | None, int]:
    """dtype and length, None for what is no header of codes; headers differ by length only, so they repeat."""
    found = _HEADER.fullmatch(data)
    return (np.dtype(f"<{found[1].decode()}"), int(found[2])) if found else (None, 0)
