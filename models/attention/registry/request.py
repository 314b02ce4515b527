"""What is asked of an attention, as far as it decides who can do it; and one call."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from triptych.kernels.flash_sigmoid.attention import Bias
from triptych.kernels.flash_sigmoid.problem import Band, Segments, Sigmoid
from triptych.models.attention.registry.layout import SegmentLayout

Function = Literal["softmax", "sigmoid"]


@dataclass(kw_only=True, slots=True, frozen=True)
class AttentionRequest:
    """The facts of an attention, the same for all its calls.

    device: "cpu", "cuda" and so on; capability: a CUDA device's, (9, 0) for Hopper, or None. head_dims: of queries and
    keys, and of values. num_groups: key-value heads. padding: rows may be filled up; packed: a row holds several
    sequences; arbitrary_mask: pairs are masked one by one. additive_bias: a matrix is added to the scores. softcap: 0
    is none. deterministic: two runs must agree to the bit. context_parallel_size: ranks that share a sequence.
    """

    function: Function
    device: str
    dtype: torch.dtype
    head_dims: tuple[int, int]
    num_heads: int
    num_groups: int
    capability: tuple[int, int] | None = None
    band: Band = field(default_factory=Band)
    padding: bool = False
    packed: bool = False
    arbitrary_mask: bool = False
    alibi: bool = False
    additive_bias: bool = False
    dropout: float = 0.0
    softcap: float = 0.0
    deterministic: bool = False
    training: bool = True
    context_parallel_size: int = 1
    sigmoid: Sigmoid = "accurate"


@dataclass(kw_only=True, slots=True, frozen=True)
class AttentionCall:
    """One call, apart from queries [B, S, H, D], keys [B, T, G, D] and values [B, T, G, E].

    scale: 1 / sqrt(D) if None. slopes: ALiBi's, fp32, [H] or one row per segment. layout: of the segments, to be kept
    from one layer to the next; softmax's backends make one where there is none. bias and sigmoid are of sigmoid
    attention alone, and as `sigmoid_attention` takes them.
    """

    scale: float | None = None
    band: Band = field(default_factory=Band)
    segments: Segments | None = None
    slopes: Tensor | None = None
    layout: SegmentLayout | None = None
    bias: Bias = "-log n"
    sigmoid: Sigmoid = "accurate"
