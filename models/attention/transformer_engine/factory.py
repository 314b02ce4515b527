"""`make_dot_product_attention`: softmax from Transformer Engine, or sigmoid attention in its place."""

import importlib
from typing import Any

from torch import nn

from triptych.models.attention.registry.request import Function
from triptych.models.attention.transformer_engine.dot_product_attention import SigmoidDotProductAttention
from triptych.models.attention.transformer_engine.environment import read_environment

OUR_OWN = ("bias", "sigmoid", "backend")


def make_dot_product_attention(*arguments: Any, function: Function | None = None, **named: Any) -> nn.Module:
    """A module with the call of Transformer Engine's DotProductAttention, whose constructor's arguments it takes.

    function: NVTE_SIGMOID_ATTN says if None. ValueError where softmax is given what is sigmoid's alone, or Transformer
    Engine cannot be imported.
    """
    if function not in (None, "softmax", "sigmoid"):
        raise ValueError(f"function is {function!r}; give softmax or sigmoid")
    if (function or read_environment().function) == "sigmoid":
        return SigmoidDotProductAttention(*arguments, **named)
    foreign = [name for name in OUR_OWN if name in named]
    if foreign:
        raise ValueError(f"{', '.join(foreign)} is of sigmoid attention alone; leave it out, or set function='sigmoid'")
    return _softmax_class()(*arguments, **named)


def _softmax_class() -> type[nn.Module]:
    try:
        return importlib.import_module("transformer_engine.pytorch").DotProductAttention
    # A package without its libraries says so by RuntimeError, AssertionError or OSError, by version.
    except (ImportError, RuntimeError, AssertionError, OSError) as error:
        line = " ".join(str(error).split())
        raise ValueError(
            f"softmax attention is Transformer Engine's, which cannot be imported ({line}); install it, or set "
            "function='sigmoid'"
        ) from None
