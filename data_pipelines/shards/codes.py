"""Codes as members of samples (`.text.npy`, `.image.npy`, `.audio.npy`), and all codes of a set at once.

`load_codes` is for sets that fit into memory, such as the demo's: four bytes a code. Larger sets read samples one by
one (`ShardSet.read`, then `unpack_codes`), which needs no memory to speak of.
"""

import io
import tokenize
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from triptych.data_pipelines.shards.decode import decode_json
from triptych.data_pipelines.shards.errors import DamagedSample
from triptych.data_pipelines.vocabulary import Modality

_NARROW = 1 << 16  # vocabularies up to here are stored in two bytes a code
_MAGIC = b"\x93NUMPY\x01\x00"


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


def unpack_codes(key: str, data: bytes) -> NDArray[np.int32]:
    """int32 [n], from what `pack_codes` made. DamagedSample if it is anything else."""
    start = 10 + int.from_bytes(data[8:10], "little")
    try:
        dtype, count = _header(data[:start])
    except (ValueError, SyntaxError, TypeError, tokenize.TokenError) as error:
        raise DamagedSample(key, "codes", "the codes are no array of uint16 or int32") from error
    if len(data) != start + count * dtype.itemsize:
        raise DamagedSample(key, "codes", f"the codes are not the {count} that their header promises")
    return np.frombuffer(data, dtype, offset=start).astype(np.int32)


def load_codes(folder: Path, modality: Modality) -> Codes:
    """All codes of a modality, in the order of the samples.

    ValueError if the folder is damaged, holds no such codes, or has a sample without; DamagedSample (a ValueError too)
    for codes that are damaged.
    """
    from triptych.data_pipelines.shards.reader import ShardSet  # which reads codes itself, with what is above

    shards = ShardSet.open(folder)
    flat = np.empty(shards.manifest.num_codes(modality), np.int32)
    offsets = np.zeros(len(shards) + 1, np.int64)
    for item, (key, data) in enumerate(shards.members(code_extension(modality))):
        if data is None:
            raise ValueError(f"{folder}: {key} has no {modality} codes; encode the shards with that tokenizer")
        codes = unpack_codes(key, data)
        offsets[item + 1] = offsets[item] + len(codes)
        if offsets[item + 1] > len(flat):
            raise ValueError(f"{folder} holds more {modality} codes than its manifest says; encode the shards again")
        flat[offsets[item] : offsets[item + 1]] = codes
    if offsets[-1] != len(flat):
        raise ValueError(f"{folder} holds fewer {modality} codes than its manifest says; encode the shards again")
    return Codes(flat=flat, offsets=offsets)


def load_labels(folder: Path) -> list[dict[str, object]]:
    """The `.json` of every sample, in their order; {} where there is none. For sets that fit into memory."""
    from triptych.data_pipelines.shards.reader import ShardSet

    labels = ShardSet.open(folder).members("json")
    return [{} if data is None else decode_json(key, data) for key, data in labels]


@lru_cache(maxsize=4096)
def _header(data: bytes) -> tuple[np.dtype[np.uint16] | np.dtype[np.int32], int]:
    """dtype and length; headers differ by length only, so they repeat."""
    if not data.startswith(_MAGIC):
        raise ValueError("not a .npy file of version 1")
    shape, _, dtype = np.lib.format.read_array_header_1_0(io.BytesIO(data[8:]))
    if len(shape) != 1 or dtype not in (np.dtype("<u2"), np.dtype("<i4")):
        raise ValueError("not codes")
    return dtype, shape[0]
