"""Exact parameter counts per part of the model."""

from collections import Counter
from collections.abc import Collection

from torch import nn

from triptych.models.parameterization import KINDS, ParameterKind, kind_of
from triptych.models.sharding import sharding_of

PARTS = {
    "embedding.": "embedding",
    "positions": "positions",
    "heads.text.": "head text",
    "heads.image.": "head image",
    "heads.audio.": "head audio",
    "self_attention.linear": "attention",
    "head_bias": "attention",
    "mlp.linear": "mlp",
    "norm": "norms",
    "layer_scale": "layer scales",
}


def parameter_counts(model: nn.Module) -> dict[str, int]:
    """Part to number of parameters, in the order of PARTS. A parameter that fits no part is an error of ours."""
    counts: Counter[str] = Counter(dict.fromkeys(PARTS.values(), 0))
    for name, parameter in model.named_parameters():
        part = next(part for key, part in PARTS.items() if key in name)
        counts[part] += parameter.numel()
    return dict(counts)


def rank_counts(
    model: nn.Module, num_layers: int, layers: Collection[int], num_tensor_ranks: int
) -> dict[ParameterKind, int]:
    """Parameters that one rank holds if its pipeline stage has `layers` of the whole `model`: of each kind that is
    there. The embedding goes with the first layer, the heads with the last.
    """
    sizes: Counter[ParameterKind] = Counter()
    for name, parameter in model.named_parameters():
        if _layer_of(name, num_layers) in layers:
            is_whole = sharding_of(parameter).dim is None
            sizes[kind_of(parameter)] += parameter.numel() // (1 if is_whole else num_tensor_ranks)
    return {kind: sizes[kind] for kind in KINDS if sizes[kind]}


def _layer_of(name: str, num_layers: int) -> int:
    """The layer whose pipeline stage has the parameter."""
    match name.split("."):
        case ["layers", number, *_]:
            return int(number)
        case ["embedding" | "positions", *_]:
            return 0
        case ["heads" | "final_norm", *_]:
            return num_layers - 1
    raise AssertionError(name)
