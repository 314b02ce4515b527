"""Initial weights keyed by parameter name: the same values whatever the layout, the order of construction, or the other
parameters.
"""

import hashlib
from collections.abc import Callable

import torch
from torch import nn
from torch.distributed import ProcessGroup

from triptych.models.sharding import part_of, sharding_of, whole_shape


def generator_for(seed: int, name: str) -> torch.Generator:
    """A CPU generator that depends on the seed and the name alone."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


@torch.no_grad()
def initialise(
    module: nn.Module,
    standard_deviation: Callable[[str, tuple[int, ...]], float | None],
    seed: int,
    tensor_group: ProcessGroup | None = None,
) -> None:
    """Fill every parameter in place with normal values of the given standard deviation (0: zeros; None: left as built).

    `standard_deviation(name, shape)` is the model's table; shape is the whole parameter's. Values of the whole are
    drawn in fp32 on the CPU, so that CPU and GPU and every split over the tensor-parallel group agree; a rank keeps its
    part.
    """
    rank, num_ranks = (0, 1) if tensor_group is None else (tensor_group.rank(), tensor_group.size())
    for name, parameter in module.named_parameters():
        sharding = sharding_of(parameter)
        shape = whole_shape(tuple(parameter.shape), sharding, num_ranks)
        std = standard_deviation(name, shape)
        if std is None:
            continue
        values = torch.empty(shape, dtype=torch.float32).normal_(generator=generator_for(seed, name))
        parameter.copy_(part_of(values, sharding, rank, num_ranks).mul_(std))
