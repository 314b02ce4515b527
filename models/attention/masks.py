"""megatron-core's description of who sees whom (a type of mask, a mask, packed sequences) in sigmoid attention's terms.

Shape legend: B sequences, S and T positions of queries and keys, G key-value groups, E head dimension of values.
"""

from collections.abc import Sequence
from typing import Any

import torch
from megatron.core.transformer.enums import AttnMaskType
from torch import Tensor

from triptych.kernels.flash_sigmoid.problem import Band, Segments
from triptych.models.attention.transformer_engine import masks as transformer_engine_masks

_CAUSAL = (AttnMaskType.causal, AttnMaskType.padding_causal, AttnMaskType.causal_bottom_right)


def band_of(mask_type: AttnMaskType, window: Sequence[int] | None) -> Band:
    """The band of a type of mask, whose names are Transformer Engine's, as are the rules: plain causal types put the
    first query at the first key and all others the last query at the last key; causal types see nothing after
    themselves, whatever the window. window: `TransformerConfig.window_size`. ValueError for arbitrary masks.
    """
    window_size = None if window is None else (window[0], window[1])
    return transformer_engine_masks.band_of(
        transformer_engine_masks.canonical_mask_type(mask_type.name), window_size, None
    )


def key_mask_of(mask: Tensor | None, mask_type: AttnMaskType, band: Band, num_queries: int) -> Tensor | None:
    """The keys that nobody sees, bool [B, T], of megatron's mask (bool, True where masked out); None where there are
    none. A type of no_mask says that the mask that comes along is not meant (it is the prompt's, while megatron
    decodes).

    A mask per query must be the causal one, for a causal type: it is compared, for which the host waits for the device.
    ValueError for any other.
    """
    if mask is None or mask_type is AttnMaskType.no_mask:
        return None
    if mask.dtype is not torch.bool:
        raise ValueError(f"attention_mask is {mask.dtype}; give bool, True where a key is masked out")
    if mask.ndim == 4 and mask.shape[1:3] == (1, 1):
        return mask[:, 0, 0, :]
    per_query = mask.ndim == 4 and mask.shape[1:3] == (1, num_queries)
    if per_query and mask_type in _CAUSAL and torch.equal(mask, _causal(mask, band).expand_as(mask)):
        return None
    raise ValueError(
        f"attention_mask of shape {list(mask.shape)} is neither one of keys [B, 1, 1, T] nor the causal one; leave it "
        "out (--no-create-attention-mask-in-dataloader) and say what is masked by attn_mask_type or packing"
    )


def without_keys(value_TBGE: Tensor, masked_BT: Tensor | None) -> Tensor:
    """Values that are 0 where a key is masked: no weight of it reaches the output, and dP = dO V^T = 0 takes it out of
    the gradients of queries, keys and bias; the filling takes it out of that of values. Exact, whatever the mask.
    """
    if masked_BT is None:
        return value_TBGE
    if masked_BT.shape[1] != value_TBGE.shape[0]:
        raise ValueError(
            f"attention_mask has {masked_BT.shape[1]} keys and there are {value_TBGE.shape[0]}; make them alike (under "
            "context parallelism, a rank's own)"
        )
    return value_TBGE.masked_fill(masked_BT.T[:, :, None, None], 0)


def segments_of(packed: Any, band: Band, num_queries: int, num_keys: int) -> Segments:
    """The segments of megatron's PackedSeqParams (thd), whose fields differ between versions.

    max_seqlen_*: a number, a tensor (for which the host waits, if it is on a GPU), or None, which is bounded by the
    number of tokens. ValueError for other formats, and for context parallelism of its own.
    """
    if packed.qkv_format != "thd":
        raise ValueError(f'packed sequences come as {packed.qkv_format!r}; pack them in one row, qkv_format="thd"')
    if (getattr(packed, "local_cp_size", None) or 1) > 1:
        raise ValueError(
            "packed sequences are cut over a context-parallel group of their own, which sigmoid attention does not "
            "follow; set context parallel size to 1"
        )
    queries, padded_queries = packed.cu_seqlens_q, getattr(packed, "cu_seqlens_q_padded", None)
    keys, padded_keys = packed.cu_seqlens_kv, getattr(packed, "cu_seqlens_kv_padded", None)
    if keys is None:
        keys, padded_keys = queries, padded_queries
    return Segments.packed(
        queries,
        keys,
        max_query_length=_number(packed.max_seqlen_q, num_queries),
        max_key_length=_number(packed.max_seqlen_kv, num_keys),
        padded_query=padded_queries,
        padded_key=padded_keys,
        alignment=band.alignment,
    )


def _number(value: Tensor | int | None, default: int) -> int:
    return default if value is None else int(value)


def _causal(mask: Tensor, band: Band) -> Tensor:
    """True where causal attention is masked out, [S, T]."""
    num_queries, num_keys = mask.shape[-2:]
    shift = num_keys - num_queries if band.alignment == "bottom_right" else 0
    return torch.ones(num_queries, num_keys, dtype=torch.bool, device=mask.device).triu(shift + 1)
