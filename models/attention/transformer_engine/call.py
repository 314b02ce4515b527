"""One call in Transformer Engine's words: its layers as rows, the backend that takes them, its output laid out again.

Shape legend: B rows, S positions, H heads, E head dimension of values.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.distributed import ProcessGroup

from triptych.kernels.flash_sigmoid.attention import Bias
from triptych.kernels.flash_sigmoid.problem import Band, Sigmoid
from triptych.models.attention.registry.attend import attend_sigmoid
from triptych.models.attention.registry.request import AttentionCall
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
    if segments is not None and settings.cp_group is not None:
        raise ValueError(
            "cp_group is set with padding in attn_mask_type, which sigmoid attention does not follow over ranks; pad "
            "and pack nothing, or set cp_group to None"
        )
    environment = read_environment()
    call = AttentionCall(
        scale=settings.scale,
        band=band,
        segments=segments,
        slopes=slopes,
        bias=settings.bias,
        sigmoid=settings.sigmoid or environment.sigmoid,
    )
    out = attend_sigmoid(
        query,
        key,
        value,
        call,
        backend=settings.backend or environment.backend,
        padding=segments is not None,
        packed=qkv_format == "thd",
        deterministic=settings.deterministic,
        training=settings.training,
        cp_group=settings.cp_group,
    )
    return from_rows(out, qkv_format)
