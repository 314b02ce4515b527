"""Which part of a whole parameter a tensor-parallel rank holds, said once, on the parameter, by megatron-core's own
attributes.
"""

from dataclasses import dataclass

import torch
from megatron.core.tensor_parallel import ColumnParallelLinear, RowParallelLinear, VocabParallelEmbedding
from megatron.core.tensor_parallel.layers import set_tensor_model_parallel_attributes
from torch import Tensor, nn


@dataclass(kw_only=True, slots=True, frozen=True)
class Sharding:
    """A parameter's split over tensor-parallel ranks: the whole is `stride` blocks along `dim`, each of them cut evenly
    over the ranks, and a rank holds its piece of every block, concatenated. dim None: every rank holds the whole.
    """

    dim: int | None = None
    stride: int = 1


def mark_sharded_parameters(module: nn.Module) -> None:
    """Write the split of every megatron-core layer under `module` on its weight. megatron does so only where it
    initialises weights itself. DeepSpeed's gradient norm reads the same attributes.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, ColumnParallelLinear):
            # SwiGLU's first matrix holds [gate; up]: a rank has its rows of either.
            set_tensor_model_parallel_attributes(layer.weight, True, 0, 2 if name.endswith("linear_fc1") else 1)
        elif isinstance(layer, RowParallelLinear):
            set_tensor_model_parallel_attributes(layer.weight, True, 1, 1)
        elif isinstance(layer, VocabParallelEmbedding):
            set_tensor_model_parallel_attributes(layer.weight, True, 0, 1)


def sharding_of(parameter: Tensor) -> Sharding:
    """The split that is written on a parameter; whole where nothing is."""
    if not getattr(parameter, "tensor_model_parallel", False):
        return Sharding()
    return Sharding(dim=parameter.partition_dim, stride=parameter.partition_stride)  # type: ignore[attr-defined]


def whole_shape(local: tuple[int, ...], sharding: Sharding, num_ranks: int) -> tuple[int, ...]:
    """Shape of the whole parameter, given that of one rank's part."""
    return tuple(size * num_ranks if dim == sharding.dim else size for dim, size in enumerate(local))


def part_of(whole: Tensor, sharding: Sharding, rank: int, num_ranks: int) -> Tensor:
    """One rank's part of a whole parameter."""
    if sharding.dim is None or num_ranks == 1:
        return whole
    blocks = whole.chunk(sharding.stride, sharding.dim)
    return torch.cat([block.chunk(num_ranks, sharding.dim)[rank] for block in blocks], sharding.dim)
