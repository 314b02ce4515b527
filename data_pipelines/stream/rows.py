"""Planned rows to a batch: documents are read, a source's all at once, and put where the plan has them.

Shape legend: B rows, S positions, D documents of the fullest row, N documents of all rows.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from triptych.data_pipelines.batch import Batch, Lost, Role
from triptych.data_pipelines.stream.sources import Pieces, Source
from triptych.data_pipelines.stream.windows import ROW_BITS, Window, source_id

Windows = Mapping[str, Callable[[int], Window]]


class PlannedRow(NamedTuple):
    """source: name. window: number, counted on through the epochs. row: in the window."""

    source: str
    window: int
    row: int


class _Documents(NamedTuple):
    """Of each document of each row, as in `Batch`. held_BD: bool, whether the row has so many."""

    held_BD: NDArray[np.bool_]
    lengths_BD: NDArray[np.int64]
    samples_BD3: NDArray[np.int64]
    offsets_BD: NDArray[np.int64]
    numbers_BD: NDArray[np.int64]


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
    documents = _documents(planned, windows)
    starts_BD = np.cumsum(documents.lengths_BD, axis=1) - documents.lengths_BD
    starts_BD += np.arange(len(planned))[:, None] * row_length
    tokens_BS = np.full((len(planned), row_length), pad, np.int64)
    roles_BS = np.full((len(planned), row_length), int(Role.PADDING), np.uint8)
    lost_BD = np.zeros_like(documents.held_BD)
    lost: list[Lost] = []
    rows_N, places_N = documents.held_BD.nonzero()
    names = [row.source for row in planned]
    for name in dict.fromkeys(names):
        wanted_N = np.array([other == name for other in names])[rows_N]
        at = rows_N[wanted_N], places_N[wanted_N]
        pieces = Pieces(
            documents.samples_BD3[..., 1][at], documents.offsets_BD[at], documents.lengths_BD[at], starts_BD[at]
        )
        for number, failure in sources[name].write(pieces, tokens_BS.reshape(-1), roles_BS.reshape(-1)).items():
            row, place = at[0][number], at[1][number]
            lost_BD[row, place] = True
            lost.append(Lost(source=name, epoch=int(documents.samples_BD3[row, place, 2]), failure=failure))
    copy_B = np.tile(np.arange(copies), len(planned))
    numbers_BD = np.repeat(documents.numbers_BD, copies, axis=0) * copies + copy_B[:, None]
    numbers_BD *= np.repeat(documents.held_BD, copies, axis=0)
    return Batch(
        tokens_BS=_repeated(tokens_BS, copies),
        roles_BS=_repeated(roles_BS, copies),
        lengths_BD=_repeated(documents.lengths_BD, copies),
        samples_BD3=_repeated(documents.samples_BD3, copies),
        offsets_BD=_repeated(documents.offsets_BD, copies),
        numbers_BD=torch.from_numpy(numbers_BD),
        lost_BD=_repeated(lost_BD, copies),
        copies_B=torch.from_numpy(copy_B),
        longest=int(documents.lengths_BD.max(initial=0)),
        lost=tuple(lost),
    )


def _documents(planned: Sequence[PlannedRow], windows: Windows) -> _Documents:
    chosen = [windows[row.source](row.window) for row in planned]
    parts = [window.documents(row.row) for window, row in zip(chosen, planned, strict=True)]
    counts_B = np.array([part.stop - part.start for part in parts], np.int64)
    held_BD = np.arange(counts_B.max(initial=1)) < counts_B[:, None]

    def grid(of: Callable[[Window], NDArray[np.int64]]) -> NDArray[np.int64]:
        grid_BD = np.zeros(held_BD.shape, np.int64)
        if chosen:
            grid_BD[held_BD] = np.concatenate([of(window)[part] for window, part in zip(chosen, parts, strict=True)])
        return grid_BD

    ids = {name: source_id(name) for name in {row.source for row in planned}}
    samples_BD3 = np.zeros((*held_BD.shape, 3), np.int64)
    samples_BD3[..., 0] = held_BD * np.array([ids[row.source] for row in planned], np.int64)[:, None]
    samples_BD3[..., 1] = grid(lambda window: window.samples_P)
    samples_BD3[..., 2] = held_BD * np.array([window.epoch for window in chosen], np.int64)[:, None]
    first_B = np.array([_number(row.window) + part.start for row, part in zip(planned, parts, strict=True)], np.int64)
    numbers_BD = held_BD * (first_B[:, None] + np.arange(held_BD.shape[1]))
    lengths_BD, offsets_BD = grid(lambda window: window.lengths_P), grid(lambda window: window.firsts_P)
    return _Documents(held_BD, lengths_BD, samples_BD3, offsets_BD, numbers_BD)


def _number(window: int) -> int:
    """Of a window's first document; they begin again where int64 would not hold two copies of them."""
    return (window << ROW_BITS) % (1 << 62)


def _repeated(array: NDArray[np.generic], copies: int) -> torch.Tensor:
    return torch.from_numpy(array if copies == 1 else np.repeat(array, copies, axis=0))
