"""Bidirectional softmax attention through torch's own: scaled_dot_product_attention, or varlen_attn.

A `core_attention` for megatron-core 0.16: flash or memory-efficient kernels on CUDA, the blocked CPU kernel elsewhere,
memory linear in the sequence length; but for packed documents in fp32 on CUDA, whose mask is laid out. Megatron's own
DotProductAttention materializes the scores, and its fast one needs Transformer Engine.

Shape legend: S positions, B sequences, N query heads of this rank, G key-value groups of this rank, D head dimension.
"""

from typing import Any

import torch
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.enums import AttnMaskType
from torch import Tensor, nn

from triptych.models.attention.documents import DocumentRows
from triptych.models.attention.registry.attend import attend_packed_softmax
from triptych.models.attention.registry.request import AttentionCall


class SDPACoreAttention(nn.Module):
    """softmax(Q K^T / sqrt(D)) V, with a padding mask, within documents, or of all positions.

    `attention_type`, `layer_number`, `cp_comm_type` and `pg_collection` are part of the protocol and unused: heads
    arrive sharded. Raises ValueError where the configuration asks for something that this path would silently not do.
    """

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
    ) -> None:
        super().__init__()
        dropout = config.attention_dropout if attention_dropout is None else attention_dropout
        if dropout:
            raise ValueError(f"attention_dropout is {dropout}, which SDPA attention does not apply; set it to 0")
        if config.context_parallel_size > 1:
            raise ValueError("SDPA attention sees one shard of the sequence only; set context parallel size to 1")
        self.softmax_scale = softmax_scale
        self.deterministic = config.deterministic_mode

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
        """Returns [S, B, N*D]. `attention_mask_B11S`: bool, True where a key is masked out, or None. packed_seq_params:
        `DocumentRows`, or None; with them, output and gradients of padding are 0.
        """
        if attention_bias is not None or not isinstance(packed_seq_params, DocumentRows | None):
            raise ValueError("SDPA attention takes neither attention_bias nor megatron's thd packing; leave them out")
        if packed_seq_params is not None:
            if attention_mask_B11S is not None:
                raise ValueError("packed documents come with an attention_mask, which says nothing more; leave it out")
            return self._documents(query_SBND, key_SBGD, value_SBGD, packed_seq_params)
        query, key, value = (x.permute(1, 2, 0, 3) for x in (query_SBND, key_SBGD, value_SBGD))
        visible = None if attention_mask_B11S is None else ~attention_mask_B11S
        context_BNSD = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=visible, scale=self.softmax_scale, enable_gqa=query.shape[1] != key.shape[1]
        )
        sequence, batch = query_SBND.shape[:2]
        return context_BNSD.permute(2, 0, 1, 3).reshape(sequence, batch, -1)

    def _documents(self, query_SBND: Tensor, key_SBGD: Tensor, value_SBGD: Tensor, documents: DocumentRows) -> Tensor:
        query, key, value = (x.transpose(0, 1) for x in (query_SBND, key_SBGD, value_SBGD))
        call = AttentionCall(scale=self.softmax_scale, segments=documents.segments, layout=documents.layout)
        context = attend_packed_softmax(
            query, key, value, call, deterministic=self.deterministic, training=self.training
        )
        return context.transpose(0, 1).flatten(2)
