"""A batch of rows of tokens, with what the objective needs to key its noise.

A row holds whole documents, one after another, and padding behind them. A document is one pair, or one text or a piece
of it.

Shape legend: B rows, S positions, D documents of the fullest row.
"""

from dataclasses import dataclass, replace
from enum import IntEnum

import torch
from torch import Tensor

from triptych.data_pipelines.shards.errors import Failure

_TENSORS = ("tokens_BS", "roles_BS", "lengths_BD", "samples_BD3", "offsets_BD", "numbers_BD", "lost_BD", "copies_B")


class Role(IntEnum):
    """What a position is to the objective."""

    GIVEN = 0  # task and boundary tokens: never masked, no loss
    CONDITION = 1  # the side of a pair that is given
    TARGET = 2  # may be masked, carries loss
    PADDING = 3  # in no document, or in one that could not be read: no loss


@dataclass(kw_only=True, slots=True, frozen=True)
class Lost:
    """A planned sample that could not be read. source: its name in the run."""

    source: str
    epoch: int
    failure: Failure


@dataclass(kw_only=True, slots=True, frozen=True)
class Places:
    """Where each position of a row stands. document_BS: int64, which of the row's documents, 0 where in none.
    position_BS: int64, how far from its document's first position; from the end of the last one where in none.
    inside_BS: bool, whether it is in a document.
    """

    document_BS: Tensor
    position_BS: Tensor
    inside_BS: Tensor


@dataclass(kw_only=True, slots=True, frozen=True)
class Batch:
    """Rows of a run, or a slice of them.

    tokens_BS: int64, clean ids. roles_BS: uint8, `Role`. Of each document, 0 where a row has fewer: lengths_BD, int64,
    positions; samples_BD3, int64 (source id, absolute sample index, epoch), the key of its noise; offsets_BD, int64,
    where in its sample a piece begins; numbers_BD, int64, its place in the order of its source, copies counted, by
    which times are stratified; lost_BD, bool, whether its sample could not be read. copies_B: int64, 0, or 1 for the
    complement twin of the row before. longest: positions of the longest document, or more. lost: what this rank could
    not read, and why.
    """

    tokens_BS: Tensor
    roles_BS: Tensor
    lengths_BD: Tensor
    samples_BD3: Tensor
    offsets_BD: Tensor
    numbers_BD: Tensor
    lost_BD: Tensor
    copies_B: Tensor
    longest: int
    lost: tuple[Lost, ...] = ()

    def __len__(self) -> int:
        return self.tokens_BS.shape[0]

    def rows(self, start: int, stop: int) -> "Batch":
        """Rows start..stop of these."""
        return replace(self, **{name: getattr(self, name)[start:stop] for name in _TENSORS})

    def to(self, device: torch.device) -> "Batch":
        """The same rows on another device."""
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in _TENSORS})

    def pin_memory(self) -> "Batch":
        """The same rows in page-locked memory, from which copies to a GPU are asynchronous."""
        return replace(self, **{name: getattr(self, name).pin_memory() for name in _TENSORS})

    def places(self) -> Places:
        """Where each position stands, computed on the rows' device."""
        ends_BD = self.lengths_BD.cumsum(1)
        position_BS = torch.arange(self.tokens_BS.shape[1], device=ends_BD.device).expand_as(self.tokens_BS)
        document_BS = torch.searchsorted(ends_BD, position_BS.contiguous(), right=True)
        inside_BS = document_BS < ends_BD.shape[1]
        document_BS = document_BS.masked_fill(~inside_BS, 0)
        starts_BS = (ends_BD - self.lengths_BD).gather(1, document_BS)
        position_BS = position_BS - torch.where(inside_BS, starts_BS, ends_BD[:, -1:])
        return Places(document_BS=document_BS, position_BS=position_BS, inside_BS=inside_BS)

    def without(self, lost_BD: Tensor) -> "Batch":
        """The same rows with the documents lost that are true in lost_BD (bool): they carry no loss and are no tokens;
        every other position stays where it is.
        """
        places = self.places()
        lost_BS = lost_BD.gather(1, places.document_BS) & places.inside_BS
        return replace(self, roles_BS=self.roles_BS.masked_fill(lost_BS, int(Role.PADDING)), lost_BD=lost_BD)

    @property
    def num_tokens(self) -> Tensor:
        """0-d int64: positions that are not padding. This is what the run's clock counts."""
        return (self.roles_BS != Role.PADDING).sum()

    @property
    def num_lost(self) -> Tensor:
        """0-d int64: documents whose samples could not be read."""
        return self.lost_BD.sum()
