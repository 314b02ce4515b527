"""Documents packed into the rows of [S, B, ...] tensors: who sees whom, as masks and as segments.

Shape legend: S positions, B rows, D documents of the fullest row.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from triptych.kernels.flash_sigmoid.problem import Segments


@dataclass(kw_only=True, slots=True, frozen=True)
class PackedDocuments:
    """Rows that hold documents one after another, and padding behind them; a position sees its own document alone.

    It travels as megatron-core's `packed_seq_params`, which hands it to the core attention as it is: qkv_format says
    that tensors stay [S, B, ...]. lengths_BD: int64 on the tensors' device, 0 where a row has fewer documents. longest:
    positions of the longest document, or more, known on the host so that nothing waits for the device.
    """

    lengths_BD: Tensor
    longest: int
    qkv_format: str = "sbhd"

    def positions(self, num_positions: int) -> Tensor:
        """int64 [B, S]: how far each position is from the first of its document; 0 in the padding."""
        document_BS = self.numbers(num_positions)
        starts_BD = torch.nn.functional.pad(self.lengths_BD.cumsum(1), (1, 0))
        position_S = torch.arange(num_positions, device=document_BS.device)
        inside_BS = document_BS < self.lengths_BD.shape[1]
        return (position_S - starts_BD.gather(1, document_BS)) * inside_BS

    def numbers(self, num_positions: int) -> Tensor:
        """int64 [B, S]: which of its row's documents each position is in; D in the padding."""
        ends_BD = self.lengths_BD.cumsum(1)
        position_S = torch.arange(num_positions, device=ends_BD.device)
        return torch.searchsorted(ends_BD, position_S.expand(len(ends_BD), -1).contiguous(), right=True)

    def same_document(self, num_positions: int) -> Tensor:
        """bool [B, 1, S, S]: whether query s and key t are of one document. Padding sees padding, so that no row of a
        softmax is empty.
        """
        numbers_BS = self.numbers(num_positions)
        return (numbers_BS[:, :, None] == numbers_BS[:, None, :])[:, None]

    def segments(self) -> Segments:
        """One segment per document, empty ones too; padding is in none, so its output and gradients are 0."""
        rows_B1 = torch.arange(len(self.lengths_BD), device=self.lengths_BD.device)[:, None]
        lengths_BD = self.lengths_BD
        starts_BD = lengths_BD.cumsum(1) - lengths_BD
        columns = (rows_B1.expand_as(lengths_BD), starts_BD, lengths_BD, starts_BD, lengths_BD, lengths_BD * 0)
        table_N6 = torch.stack(columns, dim=-1).reshape(-1, 6).to(torch.int32)
        return Segments(table_N6=table_N6, max_query_length=self.longest, max_key_length=self.longest)
