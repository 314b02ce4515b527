"""Sigmoid attention in models that are already built of Transformer Engine's layers."""

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from triptych.kernels.flash_sigmoid.attention import Bias
from triptych.kernels.flash_sigmoid.problem import Sigmoid
from triptych.models.attention.transformer_engine.dot_product_attention import SigmoidDotProductAttention

CHILD = "core_attention"
"""What Transformer Engine's MultiheadAttention calls it, in every version so far."""

_KEPT = (
    "qkv_format",
    "attn_mask_type",
    "window_size",
    "num_gqa_groups",
    "tp_size",
    "layer_number",
    "attention_type",
    "softmax_scale",
    "attention_dropout",
    "softmax_type",
    "return_max_logit",
)
"""Attributes that every version since 2.11 keeps under the name of the constructor's argument."""
_KEPT_BY_SOME = ("bottom_right_diagonal", "softcap", "tp_group", "name")
_OF_SHARED_SEQUENCES = ("cp_group", "cp_global_ranks", "cp_stream", "cp_comm_type", "load_balancing_strategy")
"""Of set_context_parallel_group, in its order; the last one since 2.20."""


def replace_core_attention(
    module: nn.Module,
    *,
    bias: Bias | Callable[[nn.Module], Bias] = "-log n",
    sigmoid: Sigmoid | None = None,
    backend: str | None = None,
    attention_dropout: float | None = None,
) -> list[str]:
    """Put sigmoid attention in the place of every DotProductAttention under `module`, of its settings, and return their
    names. Parameters and the names of all others stay as they are.

    bias: as in `SigmoidDotProductAttention`, or what gives it for a module that is replaced, which is how every layer
    gets a parameter of its own. attention_dropout: None keeps each module's own, which is refused if it is not 0: the
    default of Transformer Engine's layers is 0.1.

    ValueError where there is none, or one that cannot be replaced; then nothing is changed.
    """
    found = list(_core_attentions(module))
    if not found:
        raise ValueError(f"{type(module).__name__} holds no {CHILD} of Transformer Engine's; give a model that does")
    if isinstance(bias, nn.Parameter) and len(found) > 1:
        raise ValueError(f"one bias parameter for {len(found)} layers would tie them; give a function that makes one")
    overrides: dict[str, Any] = {} if attention_dropout is None else {"attention_dropout": attention_dropout}
    replacements = []
    for _, parent in found:
        own = bias(parent.core_attention) if callable(bias) else bias  # type: ignore[operator]
        settings = _settings(parent.core_attention) | overrides
        replacement = SigmoidDotProductAttention(**settings, bias=own, sigmoid=sigmoid, backend=backend)
        replacement.set_context_parallel_group(*_shared(parent.core_attention))
        replacements.append(replacement.train(parent.training))
    for (_, parent), replacement in zip(found, replacements, strict=True):
        setattr(parent, CHILD, replacement)
    return [name for name, _ in found]


def _core_attentions(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Names of the modules to replace, and what holds each."""
    for name, parent in module.named_modules():
        child = getattr(parent, CHILD, None)
        if not isinstance(child, nn.Module) or not all(hasattr(child, attribute) for attribute in _KEPT[:5]):
            continue
        full_name = f"{name}.{CHILD}" if name else CHILD
        if hasattr(child, "config"):
            raise ValueError(
                f"{full_name} is megatron-core's {type(child).__name__}, which is called otherwise; choose "
                "core_attention in the layer's spec"
            )
        yield full_name, parent


def _settings(attention: Any) -> dict[str, Any]:
    """The constructor's arguments, read off a module."""
    settings = {name: getattr(attention, name) for name in _KEPT if hasattr(attention, name)}
    settings |= {name: getattr(attention, name) for name in _KEPT_BY_SOME if hasattr(attention, name)}
    channels = (attention.hidden_size_per_attention_head_k, attention.hidden_size_per_attention_head_v)
    return {"num_attention_heads": attention.num_attention_heads, "kv_channels": channels, **settings}


def _shared(attention: Any) -> tuple[Any, ...]:
    """The arguments of set_context_parallel_group, read off a module."""
    return tuple(getattr(attention, name, None) for name in _OF_SHARED_SEQUENCES)
