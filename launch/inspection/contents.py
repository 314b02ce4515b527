"""Samples as they are shown: each side decoded back to text, pixels or sound, with its codes.

Shape legend: T samples of a recording.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.data_pipelines.shards.codes import code_extension, unpack_codes
from triptych.data_pipelines.shards.decode import decode_json, decode_member
from triptych.data_pipelines.shards.errors import DamagedSample
from triptych.data_pipelines.shards.reader import ShardSet
from triptych.data_pipelines.tokenizers.protocol import Tokenizer
from triptych.data_pipelines.vocabulary import MODALITIES, Modality
from triptych.launch.inspection.config import InspectionConfig
from triptych.launch.inspection.plain import counted, plain, prose
from triptych.launch.inspection.survey import DamagedRead, Survey, raw_member, read_sample, spread

_MOST_PIECES = 60
_MOST_LABEL_CHARACTERS = 1200


@dataclass(kw_only=True, slots=True, frozen=True)
class Piece:
    """One code and, for text, what it stands for."""

    code: int
    text: str | None = None


@dataclass(kw_only=True, slots=True, frozen=True)
class Side:
    """One modality of a sample. size: what it is and how long. codes: the first of them, with num_codes in all.

    raw: str, uint8 [height, width] or [height, width, 3], float32 [T], or None if it cannot be shown. note: why not.
    source: extension and bytes of a raw member.
    """

    modality: Modality
    size: str
    raw: Any = None
    pieces: tuple[Piece, ...] = ()
    num_codes: int = 0
    sample_rate_hertz: int = 0
    note: str = ""
    source: tuple[str, bytes] | None = None


@dataclass(kw_only=True, slots=True, frozen=True)
class Shown:
    """A sample of the page. damage: why it cannot be used, or None. labels: its JSON, indented, or ""."""

    index: int
    key: str
    sides: tuple[Side, ...] = ()
    labels: str = ""
    damage: DamagedRead | None = None


def shown_samples(
    shards: ShardSet, found: Survey, tokenizers: Mapping[Modality, Tokenizer], config: InspectionConfig
) -> list[Shown]:
    """`num_samples` of those that the survey read, spread over them.

    tokenizers: those that made the codes; codes of other modalities are shown as numbers.
    """
    places = spread(len(found.indices), config.num_samples, config.seed + 1)
    return [_shown(shards, found.indices[place], tokenizers, config) for place in places]


def _shown(shards: ShardSet, index: int, tokenizers: Mapping[Modality, Tokenizer], config: InspectionConfig) -> Shown:
    key = ""
    try:
        key, members = read_sample(shards, index)
        sides = []
        for modality in MODALITIES:
            if (packed := members.get(code_extension(modality))) is not None:
                sides.append(_decoded(modality, unpack_codes(key, packed), tokenizers.get(modality), config))
            if (raw := raw_member(members, modality)) is not None:
                sides.append(_raw(key, modality, raw, config))
        labels = _labels(key, members["json"]) if "json" in members else ""
    except DamagedSample as error:
        damage = DamagedRead(index=index, key=error.key, reason=error.reason, detail=error.detail)
        return Shown(index=index, key=error.key or key, damage=damage)
    return Shown(index=index, key=key, sides=tuple(sides), labels=labels)


def _decoded(
    modality: Modality, codes: NDArray[np.int32], tokenizer: Tokenizer | None, config: InspectionConfig
) -> Side:
    few = codes[: config.max_codes].tolist()
    side = {"modality": modality, "num_codes": len(codes), "pieces": tuple(Piece(code=code) for code in few)}
    size = counted(len(codes), "code")
    if tokenizer is None:
        return Side(**side, size=size, note="codes alone: its tokenizer was not given")
    if len(codes) and not 0 <= codes.min() <= codes.max() < tokenizer.vocab_size:
        return Side(**side, size=size, note=f"codes outside of the vocabulary of {tokenizer.vocab_size:,}")
    try:
        raw = tokenizer.decode([codes.astype(np.int64)])[0]
    except ValueError as error:
        return Side(**side, size=size, note=f"cannot be decoded: {plain(str(error), 300)}")
    if modality == "text":
        side["pieces"] = _pieces(tokenizer, few[:_MOST_PIECES])
        return Side(**side, size=f"{size}, {_size(modality, raw, 0)}", raw=prose(raw, config.max_characters))
    rate = getattr(tokenizer, "sample_rate_hertz", config.decode.sample_rate_hertz)
    return Side(**side, size=f"{size}, {_size(modality, raw, rate)}", raw=raw, sample_rate_hertz=rate)


def _pieces(tokenizer: Tokenizer, codes: list[int]) -> tuple[Piece, ...]:
    texts = tokenizer.decode([np.array([code], np.int64) for code in codes])
    return tuple(Piece(code=code, text=plain(text, 40, keep="\n\t")) for code, text in zip(codes, texts, strict=True))


def _raw(key: str, modality: Modality, source: tuple[str, bytes], config: InspectionConfig) -> Side:
    raw = decode_member(key, modality, source[1], config.decode)
    rate = config.decode.sample_rate_hertz
    size = f".{source[0]}, {_size(modality, raw, rate)}"
    shown = prose(raw, config.max_characters) if modality == "text" else raw
    return Side(modality=modality, size=size, raw=shown, sample_rate_hertz=rate, source=source)


def _size(modality: Modality, raw: Any, rate: int) -> str:
    if modality == "text":
        return counted(len(raw), "character")
    if modality == "image":
        return f"{raw.shape[1]:,} × {raw.shape[0]:,} pixels"
    return f"{len(raw) / rate:,.2f} s"


def _labels(key: str, data: bytes) -> str:
    return prose(json.dumps(decode_json(key, data), indent=1, ensure_ascii=False), _MOST_LABEL_CHARACTERS)
