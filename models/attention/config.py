"""Which attention a model has."""

from dataclasses import dataclass
from typing import Literal


@dataclass(kw_only=True, slots=True, frozen=True)
class AttentionConfig:
    """function: softmax(scale Q K^T) V, or sigma(scale Q K^T + bias) V.

    bias: of sigma; "-log n" is minus the logarithm of the sequence length, at which the weights of a row add up
    to about 1 at the start (arXiv 2409.04431). It is the model's own, also for shorter sequences, as in the paper's runs.
    """

    function: Literal["softmax", "sigmoid"] = "softmax"
    bias: float | Literal["-log n"] = "-log n"
