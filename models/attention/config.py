"""Which attention a model has."""

import math
import warnings
from dataclasses import dataclass
from typing import Literal

from triptych.kernels.flash_sigmoid.operator import Kernel
from triptych.kernels.flash_sigmoid.problem import Sigmoid

LearnedBias = Literal["none", "per_head"]


@dataclass(kw_only=True, slots=True, frozen=True)
class AttentionConfig:
    """function: softmax(scale Q K^T) V, or sigma(scale Q K^T + bias) V, of arXiv 2409.04431, whose practice the
    defaults are.

    bias: of sigma; "-log n" is minus the logarithm of the sequence length, at which the weights of a row add up to
    about 1 at the start. It is the model's own, also for shorter sequences. learned_bias: "per_head" adds a number to
    it that each head learns, 0 at the start, without weight decay; the paper's bias is not trained. sigmoid: how a
    kernel computes sigma; "tanh", one instruction on NVIDIA's GPUs, is too coarse for the bias of a long sequence.
    kernel: "auto" takes the first that can run.

    qk_norm: a norm on every query and key, "rms" with one gain for all heads, or none.

    ValueError for a bias that is no finite number. A field of sigma's that is set under softmax is warned of: it would
    have no effect.
    """

    function: Literal["softmax", "sigmoid"] = "softmax"
    bias: float | Literal["-log n"] = "-log n"
    learned_bias: LearnedBias = "none"
    sigmoid: Sigmoid = "accurate"
    kernel: Kernel | Literal["auto"] = "auto"
    qk_norm: Literal["rms", "none"] = "rms"

    def __post_init__(self) -> None:
        if isinstance(self.bias, float | int) and not math.isfinite(self.bias):
            raise ValueError(f'attention.bias is {self.bias}; set it to a finite number, or to "-log n"')
        if self.function == "sigmoid":
            return
        of_sigma = {"bias": "-log n", "learned_bias": "none", "sigmoid": "accurate", "kernel": "auto"}
        idle = [name for name, default in of_sigma.items() if getattr(self, name) != default]
        if idle:
            warnings.warn(
                f"attention.{' and attention.'.join(idle)} {'have' if len(idle) > 1 else 'has'} no effect on softmax "
                "attention; set attention.function=sigmoid",
                stacklevel=3,
            )
