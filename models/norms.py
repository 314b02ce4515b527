"""Root-mean-square normalization that knows about sequence parallelism (Zhang and Sennrich 2019, arXiv 1910.07467, eq.
4).
"""

import torch
from megatron.core.transformer import TransformerConfig
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension, in the dtype of x.

    Takes megatron-core's norm arguments so that a layer spec can name it. Under sequence parallelism each
    tensor-parallel rank sees part of the sequence, so the weight's gradient is partial: `weight.sequence_parallel`
    marks it for the reduction.
    """

    def __init__(self, config: TransformerConfig, hidden_size: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.epsilon = eps
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=config.params_dtype))
        self.weight.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., hidden_size] to the same shape."""
        return torch.nn.functional.rms_norm(hidden, hidden.shape[-1:], self.weight.to(hidden.dtype), self.epsilon)
