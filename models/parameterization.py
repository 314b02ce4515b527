"""What a parameter is to a scaling rule, said once, on the parameter; and how the model's shape compares with the one
that its hyper-parameters were found at.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor, nn

ParameterKind = Literal[
    "embedding",
    "attention_in",
    "attention_out",
    "mlp_in",
    "mlp_out",
    "norm",
    "query_key_norm",
    "final_norm",
    "readout",
    "matrix",
    "vector",
]
"""Kinds that a rule may treat differently; "matrix" and "vector" are parameters of which a model says nothing."""

KINDS: tuple[ParameterKind, ...] = get_args(ParameterKind)
VECTORS: frozenset[ParameterKind] = frozenset({"norm", "query_key_norm", "final_norm", "vector"})


@dataclass(kw_only=True, slots=True, frozen=True)
class BaseShape:
    """The model that hyper-parameters were found on. depth_exponent: alpha of CompleteP, in 1/2 .. 1: residual branches
    count for (depth ratio)^-alpha. ValueError for sizes below 1 or another alpha.
    """

    hidden_size: int
    num_layers: int
    depth_exponent: float = 1.0

    def __post_init__(self) -> None:
        if min(self.hidden_size, self.num_layers) < 1:
            raise ValueError(f"base shape {self.hidden_size} x {self.num_layers} is no model's; set both to 1 or more")
        if not 0.5 <= self.depth_exponent <= 1:
            raise ValueError(f"depth_exponent is {self.depth_exponent}; set it to 0.5 .. 1, 1 is usual")


@dataclass(kw_only=True, slots=True, frozen=True)
class ShapeRatio:
    """A model against its base: hidden size over hidden size (m_N), layers over layers (m_L)."""

    width: float = 1.0
    depth: float = 1.0
    depth_exponent: float = 1.0


def mark_kinds(module: nn.Module, kind_of_name: Callable[[str], ParameterKind]) -> None:
    """Write on every parameter under `module` what it is."""
    for name, parameter in module.named_parameters():
        parameter.parameter_kind = kind_of_name(name)  # type: ignore[attr-defined]


def kind_of(parameter: Tensor) -> ParameterKind:
    """What is written on a parameter; else by its dimensions."""
    return getattr(parameter, "parameter_kind", "matrix" if parameter.dim() > 1 else "vector")
