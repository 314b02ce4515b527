"""Sigmoid attention in megatron-core's own GPT layers: a spec with another core attention, and a layer for `--spec`.

    pretrain_gpt.py ... --spec triptych.models.attention.megatron_spec sigmoid_layer_spec

A model with a bias of its own, or a spec of other layers, is two lines in a module of yours:

    layer_spec = with_sigmoid_attention(get_gpt_layer_local_spec(normalization="RMSNorm"), bias=-8.3)
"""

import copy
from functools import cache
from typing import Any, Literal, TypeVar

from megatron.core.models.gpt.gpt_layer_specs import (
    get_gpt_layer_local_spec,
    get_gpt_layer_with_transformer_engine_spec,
)
from megatron.core.transformer import ModuleSpec, TransformerConfig, TransformerLayer
from megatron.core.transformer.multi_latent_attention import MultiLatentAttention
from megatron.core.transformer.spec_utils import get_module

from triptych.kernels.flash_sigmoid.operator import Kernel
from triptych.kernels.flash_sigmoid.problem import Sigmoid
from triptych.models.attention.config import LearnedBias
from triptych.models.attention.sigmoid import SigmoidCoreAttention

Spec = TypeVar("Spec")


def with_sigmoid_attention(
    spec: Spec,
    *,
    bias: float | Literal["-log n"] = "-log n",
    learned_bias: LearnedBias = "none",
    sigmoid: Sigmoid = "accurate",
    kernel: Kernel | Literal["auto"] = "auto",
) -> Spec:
    """A copy of a layer's or a block's spec whose self-attention is `SigmoidCoreAttention` with these arguments.

    Blocks are what has `layer_specs`, or a ModuleSpec of one; layers without self-attention stay as they are. The
    module of the self-attention becomes a subclass of itself that refuses generation where megatron-core runs softmax
    kernels past the core attention (dynamic batching, flash decoding); static batching works. ValueError for a spec
    that has no self-attention with a core attention, or latent attention.
    """
    core = ModuleSpec(
        SigmoidCoreAttention,
        params={"bias": bias, "learned_bias": learned_bias, "sigmoid": sigmoid, "kernel": kernel},
    )
    changed, found = _replaced(spec, core)
    if not found:
        raise ValueError(
            f"the spec of {_name_of(spec)} has no self-attention with a core attention; give the spec of a transformer "
            "layer, or of a block of them"
        )
    return changed


def _replaced(spec: Any, core: ModuleSpec) -> tuple[Any, bool]:
    """A copy with the core attention, and whether there was one to replace."""
    layers = getattr(spec, "layer_specs", None)
    if layers is not None:
        replaced = [_replaced(layer, core) for layer in layers]
        return _with(spec, layer_specs=[layer for layer, _ in replaced]), any(found for _, found in replaced)
    submodules = getattr(spec, "submodules", None)
    if submodules is None:
        return spec, False
    if hasattr(submodules, "layer_specs"):
        block, found = _replaced(submodules, core)
        return _with(spec, submodules=block), found
    attention: Any = getattr(submodules, "self_attention", None)
    if not hasattr(getattr(attention, "submodules", None), "core_attention"):
        return spec, False
    module: Any = get_module(attention)
    if issubclass(module, MultiLatentAttention):
        raise ValueError(
            f"self-attention of {_name_of(attention)} decodes past its core attention; take multi_latent_attention off"
        )
    inner = _with(attention.submodules, core_attention=core)
    attention = _with(attention, module=_refusing_bypasses(module), submodules=inner)
    return _with(spec, submodules=_with(submodules, self_attention=attention)), True


def _with(original: Any, **changes: Any) -> Any:
    """A shallow copy with other values: a spec may hold what cannot be copied deeply, such as process groups."""
    changed = copy.copy(original)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed


def _name_of(spec: Any) -> str:
    module = getattr(spec, "module", type(spec))
    return getattr(module, "__name__", str(module))


class _RefusesBypasses:
    """Of an attention module, the methods in which megatron-core runs softmax kernels instead of its core attention."""

    def flash_decode(self, *arguments: Any, **named: Any) -> Any:
        """ValueError: megatron's `flash_decode` is not for this model."""
        raise ValueError("flash_decode runs softmax kernels, and the model has sigmoid attention; turn it off")

    def flash_decode_and_prefill(self, *arguments: Any, **named: Any) -> Any:
        """ValueError: dynamic batching is not for this model."""
        raise ValueError(
            "dynamic batching runs softmax kernels, and the model has sigmoid attention; take a static context"
        )

    def forward(self, *arguments: Any, **named: Any) -> Any:
        """The attention's own, without a dynamic inference context."""
        for context in (named.get("inference_context"), named.get("inference_params")):
            if context is not None and not context.is_static_batching():
                self.flash_decode_and_prefill()
        return super().forward(*arguments, **named)  # type: ignore[misc]  # the attention's, next in line


@cache
def _refusing_bypasses(module: type) -> type:
    if issubclass(module, _RefusesBypasses):
        return module
    described = {"__doc__": module.__doc__, "__module__": __name__}
    return type(f"Sigmoid{module.__name__}", (_RefusesBypasses, module), described)


class SigmoidGPTLayer(TransformerLayer):
    """megatron-core's GPT layer with sigmoid attention, bias -log n, put together from the configuration alone.

    Its modules are Transformer Engine's or megatron's own, by `transformer_impl`. ValueError for mixtures of experts,
    whose layers differ: give `with_sigmoid_attention` the block spec.
    """

    def __init__(self, config: TransformerConfig, *arguments: Any, **named: Any) -> None:
        if config.num_moe_experts:
            raise ValueError(
                "sigmoid_layer_spec is of dense layers; build the block spec of a mixture of experts and give it to "
                "with_sigmoid_attention"
            )
        if config.transformer_impl == "transformer_engine":
            spec = get_gpt_layer_with_transformer_engine_spec(qk_layernorm=config.qk_layernorm)
        else:
            spec = get_gpt_layer_local_spec(qk_layernorm=config.qk_layernorm, normalization=config.normalization)
        submodules: Any = with_sigmoid_attention(spec).submodules
        super().__init__(config, submodules, *arguments, **named)


sigmoid_layer_spec = ModuleSpec(module=SigmoidGPTLayer)
"""What megatron-LM's `--spec` names."""
