"""The same run with other rounding errors, in one process: by how much may two bf16 runs differ?"""

from contextlib import ExitStack, contextmanager
from dataclasses import replace
from unittest.mock import patch

import torch
from layout_run import train
from megatron.core.tensor_parallel import ColumnParallelLinear, RowParallelLinear


@contextmanager
def sums_in_halves():
    """Every product with a matrix that tensor parallelism splits is made in two halves, each rounded, then added.

    What two tensor-parallel ranks do, in one process: the mathematics stays, bf16 rounds once more. So do the halves'
    gradients with respect to the input.
    """
    row, column = RowParallelLinear._forward_impl, ColumnParallelLinear._forward_impl

    def in_two(self, input, weight, *arguments, **named):
        half = weight.shape[1] // 2
        first = row(self, input[..., :half].contiguous(), weight[:, :half], *arguments, **named)
        return first + row(self, input[..., half:].contiguous(), weight[:, half:], *arguments, **named)

    def side_by_side(self, input, weight, *arguments, **named):
        half = weight.shape[0] // 2
        halves = [column(self, input, part, *arguments, **named) for part in (weight[:half], weight[half:])]
        return torch.cat(halves, -1)

    with ExitStack() as stack:
        stack.enter_context(patch.object(RowParallelLinear, "_forward_impl", in_two))
        stack.enter_context(patch.object(ColumnParallelLinear, "_forward_impl", side_by_side))
        yield


def trained_otherwise(cell):
    """`train` twice, with other micro-batches than the reference and the sums of every product in halves."""
    with sums_in_halves():
        return [train(replace(cell, micro=micro)) for micro in (2, 16)]
