"""The norm of gradients where DeepSpeed has none, fp32 without ZeRO, and where it has it wait, fp32 in a pipeline."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from deepspeed.runtime.utils import combine_grad_norm_groups
from torch import Tensor, nn

from triptych.models.sharding import sharding_of
from triptych.trainer.parallel.groups import Groups


@torch.no_grad()
def clip_gradients(parameters: Sequence[nn.Parameter], limit: float, groups: Groups) -> float:
    """Scale the gradients in place to a global norm of at most `limit` (0: no limit); returns the norm before.

    The norm is over every parameter of the model once: over the tensor-parallel ranks' parts, with what all of them
    hold alike counted on rank 0, and over the stages of the pipeline.
    """
    counted = [
        parameter.grad
        for parameter in parameters
        if parameter.grad is not None and (groups.tensor_rank == 0 or sharding_of(parameter).dim is not None)
    ]
    squares = torch.zeros((), dtype=torch.float64, device=groups.device)
    for norm in torch._foreach_norm(counted) if counted else ():
        squares += norm.double().square()
    if groups.collection.mp.size() > 1:
        dist.all_reduce(squares, group=groups.collection.mp)
    norm = float(squares.sqrt())
    if 0 < limit < norm:
        torch._foreach_mul_([parameter.grad for parameter in parameters if parameter.grad is not None], limit / norm)
    return norm


def sum_norms_alike(optimizer: Any, num_groups: int) -> None:
    """Make every stage of a pipeline take part in as many sums as there are groups of kinds in the whole model.

    DeepSpeed 0.19.8 sums the norm of each of the optimizer's groups over the model-parallel ranks in turn. A stage that
    has no parameter of some group (the first has no readout) would be one sum short, and the others wait for it.
    """

    def scaled_global_norm(norm_type: int = 2) -> Tensor:
        gradients, parameters = optimizer.averaged_gradients, optimizer.params_in_partition
        number = len(optimizer.param_groups)
        norms = [optimizer.get_grad_norm_direct(gradients[i], parameters[i], norm_type) for i in range(number)]
        norms += [optimizer.get_grad_norm_direct([], [], norm_type) for _ in range(num_groups - number)]
        return combine_grad_norm_groups(norms, norm_type)

    optimizer.scaled_global_norm = scaled_global_norm
