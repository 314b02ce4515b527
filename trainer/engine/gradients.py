"""The gradient norm where DeepSpeed has none: fp32 without ZeRO."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import nn

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
