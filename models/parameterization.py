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
    "attention_bias",
    "layer_scale",
    "readout",
    "matrix",
    "vector",
]
"""Kinds that a rule may treat differently; "matrix" and "vector" are parameters of which a model says nothing."""

KINDS: tuple[ParameterKind, ...] = get_args(ParameterKind)
VECTORS: frozenset[ParameterKind] = frozenset(
    {"norm", "query_key_norm", "final_norm", "attention_bias", "layer_scale", "vector"}
)


@dataclass(kw_only=True, slots=True, frozen=True)
class ShapeRatio:
    """A model against its base: hidden size over hidden size (m_N), layers over layers (m_L)."""

    width: float = 1.0
    depth: float = 1.0
    depth_exponent: float = 1.0

    @property
    def branch_scale(self) -> float:
        """m_L^-alpha: what a residual branch counts for, once it counts for 1 in the base."""
        return self.depth**-self.depth_exponent


@dataclass(kw_only=True, slots=True, frozen=True)
class BaseShape:
    """The transformer that hyper-parameters were found on. depth_exponent: alpha of CompleteP, in 1/2 .. 1: residual
    branches count for (depth ratio)^-alpha. ValueError for sizes below 1, heads that do not divide, or another alpha.

    Heads and FFN are here to be compared: the rules know one width, so a head must be as large as the base's, and the
    FFN as many times as wide as the model (`ratio_of`).
    """

    hidden_size: int
    num_layers: int
    num_attention_heads: int
    ffn_hidden_size: int
    depth_exponent: float = 1.0

    def __post_init__(self) -> None:
        for name in ("hidden_size", "num_layers", "num_attention_heads", "ffn_hidden_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of the base is {getattr(self, name)}; set it to 1 or more")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} of the base does not divide into {self.num_attention_heads} heads; "
                "give the sizes of the model that was tuned"
            )
        if not 0.5 <= self.depth_exponent <= 1:
            raise ValueError(f"depth_exponent is {self.depth_exponent}; set it to 0.5 .. 1, 1 is usual")

    def ratio_of(self, *, hidden_size: int, num_layers: int, head_dim: int, ffn_hidden_size: int) -> ShapeRatio:
        """How a model compares with this one. ValueError for one that the rules do not reach.

        Heads of another size would need scores over d_head rather than its root (muP, arXiv 2203.03466, definition
        4.1): attention stays the same function of the width only where heads are added, not widened. The FFN's width is
        the fan-in of its second matrix, whose learning rate goes by the model's width; a tenth of leeway, for widths
        that are rounded, is our choice.
        """
        width, base_head_dim = hidden_size / self.hidden_size, self.hidden_size // self.num_attention_heads
        if head_dim != base_head_dim:
            raise ValueError(
                f"heads have {head_dim} dimensions and the base's {base_head_dim}, between which hyper-parameters do "
                f"not transfer; make hidden_size / num_attention_heads {base_head_dim}, or set base=null and state "
                "values for this shape"
            )
        if not 0.9 <= ffn_hidden_size / (width * self.ffn_hidden_size) <= 1.1:
            raise ValueError(
                f"ffn_hidden_size {ffn_hidden_size} is {ffn_hidden_size / hidden_size:.3g} times the width and the "
                f"base's {self.ffn_hidden_size / self.hidden_size:.3g} times, between which hyper-parameters do not "
                f"transfer; set it near {width * self.ffn_hidden_size:.0f}, or set base=null and state values for this "
                "shape"
            )
        return ShapeRatio(width=width, depth=num_layers / self.num_layers, depth_exponent=self.depth_exponent)


def mark_kinds(module: nn.Module, kind_of_name: Callable[[str], ParameterKind]) -> None:
    """Write on every parameter under `module` what it is."""
    for name, parameter in module.named_parameters():
        parameter.parameter_kind = kind_of_name(name)  # type: ignore[attr-defined]


def kind_of(parameter: Tensor) -> ParameterKind:
    """What is written on a parameter; else by its dimensions."""
    return getattr(parameter, "parameter_kind", "matrix" if parameter.dim() > 1 else "vector")
