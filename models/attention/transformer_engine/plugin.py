"""Sigmoid attention inside Transformer Engine's own DotProductAttention: NVTE_PLUGIN names this module.

    NVTE_PLUGIN=triptych.models.attention.transformer_engine.plugin NVTE_SIGMOID_ATTN=1

From 2.20.2 on, Transformer Engine then calls `load_plugins` when its libraries are loaded, and takes what it finds in
transformer_engine_torch as its class of flash attention and its choice of a backend. Both are of the whole process:
with NVTE_SIGMOID_ATTN=1 every layer is sigmoid attention, under the name FlashAttention; without it all is as it was.
Where single layers are meant, `replace_core_attention` is the way.

Written from the sources of 2.20.2 and tested against a stand-in: it has never been run with Transformer Engine itself.
"""

import importlib
import importlib.metadata
import re
import sys
from typing import Any

from torch import Tensor, nn

from triptych.models.attention.transformer_engine.arguments import require_honoured
from triptych.models.attention.transformer_engine.call import Settings, attend_in_format
from triptych.models.attention.transformer_engine.environment import follow_debug_level, read_environment
from triptych.models.attention.transformer_engine.formats import Lengths
from triptych.models.attention.transformer_engine.masks import band_of, canonical_mask_type

EXTENSION = "transformer_engine_torch"
_FOLDER = "transformer_engine.pytorch.attention.dot_product_attention"
FIRST_VERSION = (2, 20, 2)
SIGMOID = "sigmoid"
"""Stands where the version of flash-attn does, by which a call knows what was chosen."""

_NOT_HONOURED: dict[str, tuple[tuple[Any, ...], str]] = {
    "attention_dropout": ((0.0,), "dropout of weights is not built; set it to 0"),
    "softcap": ((0.0,), "capped scores are not built; set it to 0"),
    "core_attention_bias_type": (("no_bias", "alibi"), "a matrix added to the scores is not built; use alibi"),
    "context_parallel": ((False,), "context parallelism is not built here; set the group to None"),
    "fp8": ((False,), "fp8 is not built; leave attention in bf16 (fp8_dpa=False, fp8_mha=False)"),
    "inference_params": ((None,), "a cache of keys and values is not built; attend to the whole sequence"),
    "softmax_type": (("vanilla",), "there is no softmax whose denominator could be changed; leave it out"),
    "return_max_logit": ((False,), "the largest score is not kept; leave it out"),
    "has_score_mod": ((False,), "a program that changes scores is not built; leave score_mod out"),
}
"""What the choice can be asked for and cannot be had."""


def load_plugins() -> None:
    """Called by Transformer Engine. RuntimeError for a version that would not look at what is put in place; Transformer
    Engine makes a warning of it and goes on with softmax, which `is_active` tells.
    """
    version = importlib.metadata.version("transformer-engine")
    if tuple(int(part) for part in re.findall(r"\d+", version)[:3]) < FIRST_VERSION:
        raise RuntimeError(f"Transformer Engine {version} has no plugins; install 2.20.2 or later")
    extension: Any = importlib.import_module(EXTENSION)
    extension.flash_attention = PluginAttention
    extension.get_attention_backend = select_backend


def is_active() -> bool:
    """Whether Transformer Engine asks this module which attention to run."""
    utilities = sys.modules.get(f"{_FOLDER}.utils")
    return getattr(utilities, "get_attention_backend", None) is select_backend


def select_backend(attention_params: Any = None) -> tuple[Any, ...]:
    """Transformer Engine's choice, or with NVTE_SIGMOID_ATTN=1 ours: flash attention's place. ValueError, naming the
    argument, for what sigmoid attention does not honour: softmax in its stead would be another function.
    """
    if read_environment().function == "softmax":
        utilities = importlib.import_module(f"{_FOLDER}.utils")
        return utilities._original_get_attention_backend(attention_params)
    follow_debug_level()
    asked = {name: getattr(attention_params, name) for name in _NOT_HONOURED if hasattr(attention_params, name)}
    if not getattr(attention_params, "is_training", True):
        asked.pop("attention_dropout", None)
    require_honoured(asked, _NOT_HONOURED, frozenset())
    mask_type = canonical_mask_type(attention_params.attn_mask_type)
    window = attention_params.window_size not in (None, (-1, -1))
    alibi = attention_params.core_attention_bias_type == "alibi"
    if not attention_params.bottom_right_diagonal and "causal" not in mask_type and (window or alibi):
        raise ValueError(
            "bottom_right_diagonal is False, which the place of flash attention is not told; leave it out, or use "
            "replace_core_attention"
        )
    return True, SIGMOID, False, None, False, [True, False, False]


class PluginAttention(nn.Module):
    """In the place of Transformer Engine's FlashAttention: itself where it was chosen, sigmoid attention where that
    was.
    """

    def __init__(self, softmax_scale: float, *more: Any, deterministic: bool = False, **named: Any) -> None:
        super().__init__()
        native = importlib.import_module(f"{_FOLDER}.backends").FlashAttention
        self.native = native(softmax_scale, *more, deterministic=deterministic, **named)
        self.softmax_scale = softmax_scale
        self.deterministic = deterministic

    def forward(
        self,
        query_layer: Tensor,
        key_layer: Tensor,
        value_layer: Tensor,
        *,
        flash_attention_backend: Any = None,
        **named: Any,
    ) -> Tensor:
        """As FlashAttention's: heads flattened, in the format of qkv_layout."""
        layers = (query_layer, key_layer, value_layer)
        if flash_attention_backend != SIGMOID:
            return self.native(*layers, flash_attention_backend=flash_attention_backend, **named)
        mask_type = canonical_mask_type(named["attn_mask_type"])
        lengths = Lengths(
            attention_mask=named.get("attention_mask"),
            cu_seqlens_q=named.get("cu_seqlens_q"),
            cu_seqlens_kv=named.get("cu_seqlens_kv"),
            cu_seqlens_q_padded=named.get("cu_seqlens_q_padded"),
            cu_seqlens_kv_padded=named.get("cu_seqlens_kv_padded"),
            max_seqlen_q=named.get("max_seqlen_q"),
            max_seqlen_kv=named.get("max_seqlen_kv"),
            pad_between_seqs=named.get("pad_between_seqs"),
        )
        settings = Settings(
            scale=self.softmax_scale,
            bias=read_environment().bias,
            sigmoid=None,
            backend=None,
            deterministic=self.deterministic,
            training=self.training,
        )
        band = band_of(mask_type, named.get("window_size"), None)
        qkv_format = "".join(letter for letter in named["qkv_layout"].partition("_")[0] if letter.isalpha())
        return attend_in_format(layers, qkv_format, mask_type, band, lengths, named.get("alibi_slopes"), settings)
