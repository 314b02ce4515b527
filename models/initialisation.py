"""Initial weights keyed by parameter name: the same values whatever the layout, the order of construction, or the other
parameters.
"""

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor, nn


def generator_for(seed: int, name: str) -> torch.Generator:
    """A CPU generator that depends on the seed and the name alone."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


@torch.no_grad()
def initialise(module: nn.Module, standard_deviation: Callable[[str, Tensor], float | None], seed: int) -> None:
    """Fill every parameter in place with normal values of the given standard deviation (0: zeros; None: left as built).

    `standard_deviation(name, parameter)` is the model's table. Values are drawn in fp32 on the CPU, so that CPU and GPU
    agree.
    """
    for name, parameter in module.named_parameters():
        std = standard_deviation(name, parameter)
        if std is None:
            continue
        values = torch.empty(parameter.shape, dtype=torch.float32).normal_(generator=generator_for(seed, name))
        parameter.copy_(values.mul_(std))
