"""Attention by the backend that the registry chooses, for megatron-core's and Transformer Engine's modules.

Shape legend: B rows, S and T positions of queries and keys, H query heads, G key-value heads, D head dimension of
queries and keys, E of values.
"""

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from triptych.kernels.flash_sigmoid.operator import KERNELS, Kernel
from triptych.models.attention.context_parallel import context_parallel_attention
from triptych.models.attention.registry.backends import REGISTRY
from triptych.models.attention.registry.request import AttentionCall, AttentionRequest, Function


def attend_sigmoid(
    query_BSHD: Tensor,
    key_BTGD: Tensor,
    value_BTGE: Tensor,
    call: AttentionCall,
    *,
    backend: str = "auto",
    padding: bool = False,
    packed: bool = False,
    deterministic: bool = False,
    training: bool = True,
    cp_group: ProcessGroup | None = None,
) -> Tensor:
    """O [B, S, H, E]. backend: "auto", or a name. padding to training: of the request. cp_group: of the ranks that
    share every sequence, each with two chunks of it in Transformer Engine's and megatron-core's order, or None.

    ValueError, with reasons, where no backend can do it, or the one that is named cannot.
    """
    request = replace(
        _request("sigmoid", query_BSHD, key_BTGD, value_BTGE, call),
        padding=padding,
        packed=packed,
        deterministic=deterministic,
        training=training,
        context_parallel_size=1 if cp_group is None else cp_group.size(),
        sigmoid=call.sigmoid,
    )
    chosen = REGISTRY.choose(request, backend).backend
    if cp_group is None:
        return chosen.attend(query_BSHD, key_BTGD, value_BTGE, call)
    if chosen.name not in KERNELS:
        raise ValueError(
            f"a sequence is shared by ranks, and backend {chosen.name} takes whole ones; take {' or '.join(KERNELS)}, "
            "or set context parallel size to 1"
        )
    assert call.segments is None
    return context_parallel_attention(
        query_BSHD,
        key_BTGD,
        value_BTGE,
        cp_group,
        bias="-log n" if isinstance(call.bias, str) else call.bias,  # rows are alike: "of each" says the same
        scale=call.scale,
        band=call.band,
        slopes=call.slopes,
        sigmoid=call.sigmoid,
        kernel=cast(Kernel, chosen.name),
    )


def attend_packed_softmax(
    query_BSHD: Tensor,
    key_BTGD: Tensor,
    value_BTGE: Tensor,
    call: AttentionCall,
    *,
    deterministic: bool = False,
    training: bool = True,
) -> Tensor:
    """O [B, S, H, E] of rows that hold several sequences, the call's segments, and may be filled up. ValueError, with
    reasons, where no backend can do it.
    """
    request = replace(
        _request("softmax", query_BSHD, key_BTGD, value_BTGE, call),
        padding=True,
        packed=True,
        deterministic=deterministic,
        training=training,
    )
    return REGISTRY.choose(request).backend.attend(query_BSHD, key_BTGD, value_BTGE, call)


def _request(
    function: Function, query_BSHD: Tensor, key_BTGD: Tensor, value_BTGE: Tensor, call: AttentionCall
) -> AttentionRequest:
    """What tensors and call say by themselves."""
    return AttentionRequest(
        function=function,
        device=query_BSHD.device.type,
        capability=torch.cuda.get_device_capability(query_BSHD.device) if query_BSHD.is_cuda else None,
        dtype=query_BSHD.dtype,
        head_dims=(query_BSHD.shape[3], value_BTGE.shape[3]),
        num_heads=query_BSHD.shape[2],
        num_groups=key_BTGD.shape[2],
        band=call.band,
        alibi=call.slopes is not None,
    )
