"""One call in Transformer Engine's words: its layers as rows, the backend that takes them, its output laid out again.

Shape legend: B rows, S positions, H heads, E head dimension of values.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from triptych.kernels.flash_sigmoid.attention import Bias
from triptych.kernels.flash_sigmoid.operator import KERNELS, Kernel
from triptych.kernels.flash_sigmoid.problem import Band, Sigmoid
from triptych.models.attention.context_parallel import context_parallel_attention
from triptych.models.attention.registry.backends import REGISTRY
from triptych.models.attention.registry.request import AttentionCall, AttentionRequest
from triptych.models.attention.transformer_engine.environment import read_environment
from triptych.models.attention.transformer_engine.formats import Lengths, from_rows, to_rows

LAYERS = ("query_layer", "key_layer", "value_layer")


@dataclass(kw_only=True, slots=True, frozen=True)
class Settings:
    """What a module is set to. sigmoid, backend: None is the environment's. cp_group: of the ranks that share each
    sequence, or None.
    """

    scale: float
    bias: Bias
    sigmoid: Sigmoid | None
    backend: str | None
    deterministic: bool
    training: bool
    cp_group: ProcessGroup | None = None


def attend_in_format(
    layers: tuple[Tensor, Tensor, Tensor],
    qkv_format: str,
    mask_type: str,
    band: Band,
    lengths: Lengths,
    slopes: Tensor | None,
    settings: Settings,
) -> Tensor:
    """Sigmoid attention of layers in `qkv_format`: [S, B, H * E], [B, S, H * E] or [positions, H * E]. ValueError where
    format, mask type and lengths do not fit together, or no backend can do it.
    """
    query, key, value = (to_rows(name, layer, qkv_format) for name, layer in zip(LAYERS, layers, strict=True))
    segments = None
    if qkv_format == "thd":
        if "padding" not in mask_type:
            raise ValueError(f"attn_mask_type is {mask_type} with qkv_format thd; give one with padding")
        segments = lengths.packed(band.alignment)
    elif "padding" in mask_type:
        segments = lengths.padded(query.shape[0], query.shape[1], key.shape[1], band.alignment)
    environment = read_environment()
    call = AttentionCall(
        scale=settings.scale,
        band=band,
        segments=segments,
        slopes=slopes,
        bias=settings.bias,
        sigmoid=settings.sigmoid or environment.sigmoid,
    )
    request = AttentionRequest(
        function="sigmoid",
        device=query.device.type,
        capability=torch.cuda.get_device_capability(query.device) if query.is_cuda else None,
        dtype=query.dtype,
        head_dims=(query.shape[3], value.shape[3]),
        num_heads=query.shape[2],
        num_groups=key.shape[2],
        band=band,
        padding=segments is not None,
        packed=qkv_format == "thd",
        alibi=slopes is not None,
        deterministic=settings.deterministic,
        training=settings.training,
        context_parallel_size=1 if settings.cp_group is None else settings.cp_group.size(),
        sigmoid=call.sigmoid,
    )
    backend = REGISTRY.choose(request, settings.backend or environment.backend).backend
    if settings.cp_group is None:
        return from_rows(backend.attend(query, key, value, call), qkv_format)
    return from_rows(_over_ranks((query, key, value), call, backend.name, settings.cp_group), qkv_format)


def _over_ranks(rows: tuple[Tensor, Tensor, Tensor], call: AttentionCall, backend: str, group: ProcessGroup) -> Tensor:
    """[B, S, H, E] of this rank's two chunks of every sequence, in Transformer Engine's order."""
    if call.segments is not None:
        raise ValueError(
            "cp_group is set with padding in attn_mask_type, which sigmoid attention does not follow over ranks; pad "
            "and pack nothing, or set cp_group to None"
        )
    if backend not in KERNELS:
        raise ValueError(f"cp_group is set, and backend {backend} takes whole sequences; take {' or '.join(KERNELS)}")
    bias = call.bias
    if isinstance(bias, str):
        bias = "-log n"  # "of each" is the same: every row is as long as the others
    return context_parallel_attention(
        *rows,
        group,
        bias=bias,
        scale=call.scale,
        band=call.band,
        slopes=call.slopes,
        sigmoid=call.sigmoid,
        kernel=cast(Kernel, backend),
    )
