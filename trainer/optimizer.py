"""AdamW and its parameter groups."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from triptych.models.parameterization import KINDS, ParameterKind, kind_of
from triptych.trainer.scaling.rules import AdamWValues, DecayForm, decays


@dataclass(kw_only=True, slots=True, frozen=True)
class KindFactors:
    """What one kind of parameter has of its own: factors on the run's values ("per-module" values in Complete(d)P).
    ValueError unless all are numbers of 0 or more.
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


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """One group per kind of parameter that is there, in the order of KINDS."""
    by_kind: dict[ParameterKind, list[nn.Parameter]] = {kind: [] for kind in KINDS}
    for parameter in model.parameters():
        if parameter.requires_grad:
            by_kind[kind_of(parameter)].append(parameter)
    return [{"params": parameters, "kind": kind} for kind, parameters in by_kind.items() if parameters]


def build_adamw(model: nn.Module) -> torch.optim.AdamW:
    """torch's fused AdamW, on CPU as on CUDA. It moves nothing before `set_hyper_parameters`."""
    return torch.optim.AdamW(parameter_groups(model), lr=0.0, fused=True)


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
