"""Planned rows to a batch: documents are read, a source's all at once, and put where the plan has them.

Shape legend: B rows, S positions, D documents of the fullest row.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from triptych.data_pipelines.batch import Batch, Lost, Role
from triptych.data_pipelines.shards.errors import Failure
from triptych.data_pipelines.stream.sequences import Document
from triptych.data_pipelines.stream.sources import Piece, Source
from triptych.data_pipelines.stream.windows import ROW_BITS, Window, source_id

Windows = Mapping[str, Callable[[int], Window]]


class PlannedRow(NamedTuple):
    """source: name. window: number, counted on through the epochs. row: in the window."""

    source: str
    window: int
    row: int


class _Spot(NamedTuple):
    """Where a document goes: row and document of the batch, first position."""

    row: int
    document: int
    start: int


def assemble(
    planned: Sequence[PlannedRow],
    sources: Mapping[str, Source],
    windows: Windows,
    *,
    row_length: int,
    pad: int,
    copies: int,
) -> Batch:
    """The planned rows in order, `copies` of each in a row. A document that cannot be read, or is not as long as the
    index says, is lost: its positions hold padding.
    """
    chosen = [windows[row.source](row.window) for row in planned]
    slices = [window.documents(row.row) for window, row in zip(chosen, planned, strict=True)]
    width = max((part.stop - part.start for part in slices), default=1)
    size = len(planned)
    lengths_BD, offsets_BD, numbers_BD = (np.zeros((size, width), np.int64) for _ in range(3))
    samples_BD3 = np.zeros((size, width, 3), np.int64)
    wanted: dict[str, list[tuple[Piece, _Spot]]] = defaultdict(list)
    for at, (row, window, part) in enumerate(zip(planned, chosen, slices, strict=True)):
        count = part.stop - part.start
        lengths_BD[at, :count] = window.lengths_P[part]
        offsets_BD[at, :count] = window.firsts_P[part]
        samples_BD3[at, :count, 0] = source_id(row.source)
        samples_BD3[at, :count, 1] = window.samples_P[part]
        samples_BD3[at, :count, 2] = window.epoch
        numbers_BD[at, :count] = (row.window << ROW_BITS) + np.arange(part.start, part.stop)
        starts = np.cumsum(lengths_BD[at, :count]) - lengths_BD[at, :count]
        columns = (window.samples_P[part], window.firsts_P[part], window.lengths_P[part], starts)
        for document, (sample, first, length, start) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
            wanted[row.source].append((Piece(sample, first, length), _Spot(at, document, start)))
    tokens_BS = np.full((size, row_length), pad, np.int64)
    roles_BS = np.full((size, row_length), int(Role.PADDING), np.uint8)
    lost_BD = np.zeros((size, width), np.bool_)
    lost: list[Lost] = []
    for name, pairs in wanted.items():
        found = sources[name].documents([piece for piece, _ in pairs])
        for (piece, spot), document in zip(pairs, found, strict=True):
            document = _checked(document, piece)
            if isinstance(document, Failure):
                lost_BD[spot.row, spot.document] = True
                lost.append(Lost(source=name, epoch=chosen[spot.row].epoch, failure=document))
                continue
            where = slice(spot.start, spot.start + piece.length)
            tokens_BS[spot.row, where], roles_BS[spot.row, where] = document
    copy_B = np.tile(np.arange(copies), size)
    numbers_BD = np.repeat(numbers_BD, copies, axis=0) * copies + copy_B[:, None]
    arrays = (tokens_BS, roles_BS, lengths_BD, samples_BD3, offsets_BD, lost_BD)
    tokens, roles, lengths, samples, offsets, gone = (torch.from_numpy(np.repeat(x, copies, axis=0)) for x in arrays)
    return Batch(
        tokens_BS=tokens,
        roles_BS=roles,
        lengths_BD=lengths,
        samples_BD3=samples,
        offsets_BD=offsets,
        numbers_BD=torch.from_numpy(numbers_BD),
        lost_BD=gone,
        copies_B=torch.from_numpy(copy_B),
        longest=int(lengths_BD.max(initial=0)),
        lost=tuple(lost),
    )


def _checked(document: Document | Failure, piece: Piece) -> Document | Failure:
    """The document, or why it is not what was planned."""
    if isinstance(document, Failure) or len(document.tokens) == piece.length:
        return document
    detail = f"{len(document.tokens)} positions where the index promises {piece.length}"
    return Failure(sample=piece.sample, key="", shard="", reason="index", detail=detail, attempts=1)
