"""AdamW and its parameter groups."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from triptych.models.parameterization import KINDS, VECTORS, ParameterKind, kind_of
from triptych.trainer.scaling.rules import AdamWValues, DecayForm, decays


@dataclass(kw_only=True, slots=True, frozen=True)
class KindFactors:
    """What one kind of parameter has of its own: factors on the run's values ("per-module" values in Complete(d)P).
    weight_decay: on the decay as it is stated, so that an independent one does not feel the factor on the learning
    rate. ValueError unless all are numbers of 0 or more.
    """

    learning_rate: float = 1.0
    epsilon: float = 1.0
    weight_decay: float = 1.0

    def __post_init__(self) -> None:
        for name in ("learning_rate", "epsilon", "weight_decay"):
            _require_amount(name, getattr(self, name))


@dataclass(kw_only=True, slots=True, frozen=True)
class AdamWConfig:
    """Hyper-parameters at the peak of the schedule, at the logical batch and the base shape.

    decay: "coupled" as in PyTorch, p -= lr * (update + weight_decay * p); "independent" of the peak learning rate,
    p -= (lr / peak) * weight_decay * p. Matrices decay, gains do not. kinds: factors per kind of parameter.
    """

    peak_learning_rate: float
    betas: tuple[float, float] = (0.9, 0.95)
    epsilon: float = 1e-8
    weight_decay: float = 0.1
    decay: DecayForm = "coupled"
    kinds: Mapping[ParameterKind, KindFactors] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("peak_learning_rate", "epsilon", "weight_decay"):
            _require_amount(name, getattr(self, name))
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas are {self.betas}; set both to 0 or more and below 1")

    @property
    def values(self) -> AdamWValues:
        """As stated."""
        return AdamWValues(
            learning_rate=self.peak_learning_rate,
            betas=self.betas,
            epsilon=self.epsilon,
            weight_decay=self.weight_decay,
        )


KindGroups = Sequence[Sequence[ParameterKind]]
"""Kinds of parameters that are always given the same values, and so share one of the optimizer's groups: ZeRO cuts each
group over the ranks by itself, and a group of one large matrix leaves every rank with its whole gradient under ZeRO-2.
"""

MATRICES_AND_VECTORS: KindGroups = (tuple(kind for kind in KINDS if decays(kind)), tuple(sorted(VECTORS)))
"""The groups where kinds differ in nothing but that gains do not decay."""


def alike(values: Mapping[ParameterKind, AdamWValues]) -> KindGroups:
    """Kinds of equal values together, in the order of KINDS."""
    found: dict[tuple[AdamWValues, bool], list[ParameterKind]] = {}
    for kind in KINDS:
        found.setdefault((values[kind], decays(kind)), []).append(kind)
    return list(found.values())


def parameter_groups(model: nn.Module, kinds: KindGroups = MATRICES_AND_VECTORS) -> list[dict[str, Any]]:
    """The optimizer's groups, those that have parameters here, in the model's order; "kind" names one of the kinds in
    each.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [{"params": [p for p in trained if kind_of(p) in group], "kind": group[0]} for group in kinds]
    return [group for group in groups if group["params"]]


def build_adamw(model: nn.Module, kinds: KindGroups = MATRICES_AND_VECTORS) -> torch.optim.AdamW:
    """torch's fused AdamW, on CPU as on CUDA. It moves nothing before `set_hyper_parameters`."""
    return torch.optim.AdamW(parameter_groups(model, kinds), lr=0.0, fused=True)


def set_hyper_parameters(param_groups: list[dict[str, Any]], values: Mapping[ParameterKind, AdamWValues]) -> None:
    """The one place where a step's hyper-parameters reach the optimizer: values by kind, the learning rate of this
    step, decay as PyTorch has it.
    """
    for group in param_groups:
        mine = values[group["kind"]]
        group["lr"] = mine.learning_rate
        group["betas"] = mine.betas
        group["eps"] = mine.epsilon
        group["weight_decay"] = mine.weight_decay if decays(group["kind"]) else 0.0


def _require_amount(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} is {value}; set it to a number of 0 or more")
