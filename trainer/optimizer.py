"""AdamW and its parameter groups."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(kw_only=True, slots=True, frozen=True)
class AdamWConfig:
    """Hyper-parameters at the peak of the schedule. Decay is coupled as in PyTorch: p -= lr * (update + weight_decay *
    p).
    """

    peak_learning_rate: float
    betas: tuple[float, float] = (0.9, 0.95)
    epsilon: float = 1e-8
    weight_decay: float = 0.1

    def __post_init__(self) -> None:
        for name in ("peak_learning_rate", "epsilon", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; set it to a number of 0 or more")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas are {self.betas}; set both to 0 or more and below 1")


def parameter_groups(model: nn.Module, config: AdamWConfig) -> list[dict[str, Any]]:
    """Two groups: matrices, which decay, and vectors (norm gains, biases), which do not."""
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    matrices = [parameter for _, parameter in named if parameter.dim() > 1]
    vectors = [parameter for _, parameter in named if parameter.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay, "group_name": "matrices"},
        {"params": vectors, "weight_decay": 0.0, "group_name": "vectors"},
    ]
    return [group for group in groups if group["params"]]


def build_adamw(model: nn.Module, config: AdamWConfig) -> torch.optim.AdamW:
    """torch's fused AdamW, on CPU as on CUDA."""
    return torch.optim.AdamW(
        parameter_groups(model, config),
        lr=config.peak_learning_rate,
        betas=config.betas,
        eps=config.epsilon,
        fused=True,
    )


def set_learning_rate(param_groups: list[dict[str, Any]], learning_rate: float) -> None:
    """The one place where a step's hyper-parameters reach the optimizer."""
    for group in param_groups:
        group["lr"] = learning_rate
