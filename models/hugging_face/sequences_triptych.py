"""Codes to sequences with holes, and filled holes back to codes.

    text   [task] t t t ...
    pairs  [task] [begin_condition] codes END.. [begin_target] holes

Shape legend: B sequences, S positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from triptych.models.hugging_face.configuration_triptych import MODALITIES, SIDES, TriptychConfiguration


@dataclass
class Canvas:
    """tokens_BS: int64, [MASK] at the holes. modality_BS: int64, index into MODALITIES at the holes, -1 elsewhere.
    condition_BS: bool, what the unconditional half of guidance hides. padding_BS: bool, or None where there is none.
    targets: where each row's result lies.
    """

    tokens_BS: Tensor
    modality_BS: Tensor
    condition_BS: Tensor
    padding_BS: Tensor | None
    targets: list[slice]


def pair_canvas(config: TriptychConfiguration, task: str, conditions: Sequence[Sequence[int]]) -> Canvas:
    """Pairs whose target side is to be filled. ValueError for a condition that does not fit its region."""
    condition, target = SIDES[task]
    rows: list[list[int]] = []
    num_targets = _positions(config, target)
    for codes in conditions:
        _check(config, condition, codes, _positions(config, condition))
        size = _condition_positions(config, condition, len(codes))
        filled = [config.end(condition) + 1 + int(code) for code in codes]
        filled += [config.end(condition)] * (size - len(filled))
        begin = [config.special(f"task_{task}"), config.special(f"begin_{condition}")]
        rows.append([*begin, *filled, config.special(f"begin_{target}")])
    targets = [slice(len(row), len(row) + num_targets) for row in rows]
    tokens_BS = torch.full((len(rows), max(place.stop for place in targets)), config.special("pad"))
    modality_BS = torch.full_like(tokens_BS, -1)
    condition_BS, padding_BS = torch.zeros_like(tokens_BS).bool(), torch.zeros_like(tokens_BS).bool()
    for number, (row, place) in enumerate(zip(rows, targets, strict=True)):
        tokens_BS[number, : len(row)] = torch.tensor(row)
        tokens_BS[number, place] = config.special("mask")
        modality_BS[number, place] = MODALITIES.index(target)
        condition_BS[number, 2 : len(row) - 1] = True
        padding_BS[number, place.stop :] = True
    return Canvas(tokens_BS, modality_BS, condition_BS, padding_BS if bool(padding_BS.any()) else None, targets)


def text_canvas(config: TriptychConfiguration, beginning: Sequence[int], num: int) -> Canvas:
    """A whole sequence of text after a beginning, `num` times."""
    _check(config, "text", beginning, config.sequence_length - 2)
    ids = [config.special("task_text"), *(config.end("text") + 1 + int(code) for code in beginning)]
    given = len(ids)
    tokens_S = torch.full((config.sequence_length,), config.special("mask"))
    tokens_S[:given] = torch.tensor(ids)
    modality_S = torch.full_like(tokens_S, MODALITIES.index("text"))
    modality_S[:given] = -1
    condition_S = torch.zeros_like(tokens_S).bool()
    condition_S[1:given] = True
    rows = [x.expand(num, -1).clone() for x in (tokens_S, modality_S, condition_S)]
    return Canvas(*rows, padding_BS=None, targets=[slice(1, config.sequence_length)] * num)


def region_codes(config: TriptychConfiguration, modality: str, ids: Tensor) -> Tensor:
    """int64, the codes of a region up to its first END; ids of other kinds are dropped."""
    ends = (ids == config.end(modality)).nonzero()
    kept = ids[: int(ends[0])] if len(ends) else ids
    codes = kept - config.end(modality) - 1
    return codes[(codes >= 0) & (codes < config.vocabulary[modality])]


def _positions(config: TriptychConfiguration, modality: str) -> int:
    size = config.regions[modality]
    assert size is not None
    return size


def _condition_positions(config: TriptychConfiguration, modality: str, num_codes: int) -> int:
    """A condition takes its codes and one END, filled up to a multiple; or all of its region."""
    multiple = config.regions.get("condition_multiple")
    region = _positions(config, modality)
    return region if multiple is None else min(-(-(num_codes + 1) // multiple) * multiple, region)


def _check(config: TriptychConfiguration, modality: str, codes: Sequence[int], room: int) -> None:
    if len(codes) > room:
        raise ValueError(f"a condition has {len(codes)} {modality} codes, there is room for {room}; shorten it")
    if any(not 0 <= code < config.vocabulary[modality] for code in codes):
        raise ValueError(f"a {modality} code is outside 0..{config.vocabulary[modality] - 1}; use its own tokenizer")
