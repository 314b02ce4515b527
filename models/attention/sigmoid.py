"""Sigmoid attention as a `core_attention` for megatron-core 0.16.

Shape legend: S positions, B sequences, N query heads of this rank, G key-value groups of this rank, D head dimension.
"""

from typing import Any

from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.enums import AttnMaskType
from torch import Tensor, nn

from triptych.kernels.flash_sigmoid.attention import sigmoid_attention


class SigmoidCoreAttention(nn.Module):
    """sigma(Q K^T / sqrt(D) + bias) V with an optional padding mask, both directions."""

    def __init__(
        self,
        config: TransformerConfig,
        layer_number: int,
        attn_mask_type: AttnMaskType,
        attention_type: str,
        attention_dropout: float | None = None,
        softmax_scale: float | None = None,
        cp_comm_type: str | None = None,
        pg_collection: Any = None,
        *,
        bias: float,
    ) -> None:
        super().__init__()
        self.softmax_scale = softmax_scale
        self.bias = bias

    def forward(
        self,
        query_SBND: Tensor,
        key_SBGD: Tensor,
        value_SBGD: Tensor,
        attention_mask_B11S: Tensor | None,
        *,
        attn_mask_type: AttnMaskType | None = None,
        attention_bias: Tensor | None = None,
        packed_seq_params: Any = None,
    ) -> Tensor:
        """Returns [S, B, N*D]. `attention_mask_B11S`: bool, True where a key is masked out, or None."""
        if attention_mask_B11S is not None:
            # A value of 0 takes a key out of the output and, by its own gradient, out of every gradient.
            value_SBGD = value_SBGD.masked_fill(attention_mask_B11S[:, 0, 0, :].T[:, :, None, None], 0)
        query, key, value = (x.transpose(0, 1) for x in (query_SBND, key_SBGD, value_SBGD))
        context_BSND = sigmoid_attention(query, key, value, bias=self.bias, scale=self.softmax_scale)
        return context_BSND.transpose(0, 1).flatten(2)
