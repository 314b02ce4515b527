"""Documents packed into the rows of [S, B, ...] tensors: who sees whom, and where each position stands.

Shape legend: S positions, B rows, D documents of the fullest row.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from triptych.kernels.flash_sigmoid.problem import Segments
from triptych.models.attention.registry.layout import SegmentLayout


@dataclass(kw_only=True, slots=True, frozen=True)
class PackedDocuments:
    """Rows that hold documents one after another, and padding behind them; a position sees its own document alone.

    lengths_BD: int64 on the tensors' device, 0 where a row has fewer documents. longest: positions of the longest
    document, or more, known on the host so that nothing waits for the device.
    """

    lengths_BD: Tensor
    longest: int

    def laid_out(self, num_positions: int) -> "DocumentRows":
        """For the attention of all layers of a forward pass, and of its recomputation."""
        return DocumentRows(self, num_positions)


class DocumentRows:
    """Documents as attention takes them, in rows of `num_positions`.

    It travels as megatron-core's `packed_seq_params`, which hands it to the core attention as it is: qkv_format says
    that tensors stay [S, B, ...]. What kernels need of it is made when the first layer asks, and kept for the others.
    """

    qkv_format = "sbhd"

    def __init__(self, documents: PackedDocuments, num_positions: int) -> None:
        self.longest = documents.longest
        self._lengths_BD = documents.lengths_BD
        self._num_positions = num_positions

    @cached_property
    def positions(self) -> Tensor:
        """int64 [B, S]: how far each position is from the first of its document; 0 in the padding."""
        ends_BD = self._lengths_BD.cumsum(1)
        position_S = torch.arange(self._num_positions, device=ends_BD.device)
        document_BS = torch.searchsorted(ends_BD, position_S.expand(len(ends_BD), -1).contiguous(), right=True)
        starts_BD = torch.nn.functional.pad(ends_BD, (1, 0))
        return (position_S - starts_BD.gather(1, document_BS)) * (document_BS < ends_BD.shape[1])

    @cached_property
    def segments(self) -> Segments:
        """One per document, empty ones too, in the order of the rows; padding is in none, so its output and gradients
        are 0.
        """
        rows_B1 = torch.arange(len(self._lengths_BD), device=self._lengths_BD.device)[:, None]
        lengths_BD = self._lengths_BD
        starts_BD = lengths_BD.cumsum(1) - lengths_BD
        columns = (rows_B1.expand_as(lengths_BD), starts_BD, lengths_BD, starts_BD, lengths_BD, lengths_BD * 0)
        table_N6 = torch.stack(columns, dim=-1).reshape(-1, 6).to(torch.int32)
        return Segments(table_N6=table_N6, max_query_length=self.longest, max_key_length=self.longest)

    @cached_property
    def layout(self) -> SegmentLayout:
        """What softmax lays out for them."""
        shape = (len(self._lengths_BD), self._num_positions)
        return SegmentLayout(self.segments, shape, shape)
