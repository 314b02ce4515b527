"""Exact parameter counts per part of the model."""

from collections import Counter

from torch import nn

PARTS = {
    "embedding.": "embedding",
    "positions": "positions",
    "heads.text.": "head text",
    "heads.image.": "head image",
    "heads.audio.": "head audio",
    "self_attention.": "attention",
    "mlp.linear": "mlp",
    "norm": "norms",
}


def parameter_counts(model: nn.Module) -> dict[str, int]:
    """Part to number of parameters, in the order of PARTS. A parameter that fits no part is an error of ours."""
    counts: Counter[str] = Counter(dict.fromkeys(PARTS.values(), 0))
    for name, parameter in model.named_parameters():
        is_norm = parameter.dim() == 1
        part = "norms" if is_norm else next(part for key, part in PARTS.items() if key in name)
        counts[part] += parameter.numel()
    return dict(counts)
