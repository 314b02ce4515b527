"""Root-mean-square normalization that knows about tensor parallelism (Zhang and Sennrich 2019, arXiv 1910.07467, eq.
4).
"""

import torch
from megatron.core.tensor_parallel import copy_to_tensor_model_parallel_region
from megatron.core.transformer import TransformerConfig
from torch import Tensor, nn
from torch.distributed import ProcessGroup


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension, in the dtype of x.

    Takes megatron-core's norm arguments so that a layer spec can name it. sum_gradient_over: the tensor-parallel group
    where its ranks see different inputs (parts of the sequence, or heads), or None where they see the same. The weight
    is the same on all of them, so its gradient is then the sum of theirs.
    """

    def __init__(
        self,
        config: TransformerConfig,
        hidden_size: int,
        eps: float = 1e-5,
        *,
        sum_gradient_over: ProcessGroup | None = None,
    ) -> None:
        super().__init__()
        self.epsilon = eps
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=config.params_dtype))
        self._group = sum_gradient_over

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., hidden_size] to the same shape."""
        weight = shared_parameter(self.weight, self._group).to(hidden.dtype)
        return torch.nn.functional.rms_norm(hidden, hidden.shape[-1:], weight, self.epsilon)


def shared_parameter(parameter: Tensor, sum_gradient_over: ProcessGroup | None) -> Tensor:
    """The parameter itself, whose gradient is summed over a group in the backward pass of each micro-batch.

    megatron-core does this once per step, between the backward pass and its own optimizer, which DeepSpeed's ZeRO-2
    leaves no room for: it reduces and drops gradients as they appear. The price is one small message per norm and
    micro-batch.
    """
    if sum_gradient_over is None or sum_gradient_over.size() == 1:
        return parameter
    return copy_to_tensor_model_parallel_region(parameter, group=sum_gradient_over)
