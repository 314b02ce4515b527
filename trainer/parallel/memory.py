"""Bytes that one rank holds of a model under DeepSpeed: parameters, gradients and optimizer state. Activations are not
counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from triptych.trainer.engine.config import REDUCE_BUCKET_ELEMENTS

FP32, BF16 = 4, 2
_PARTITION_ALIGNMENT = 2  # elements per rank, for NCCL


@dataclass(kw_only=True, slots=True, frozen=True)
class MemoryEstimate:
    """Bytes on one rank between the last backward pass and the optimizer's step, when all of it is there.

    buffers: where gradients are gathered before they are reduced. ZeRO-1 in fp32 keeps it until the step, ZeRO-2 during
    each backward pass; the CPU backs only the pages that are written.
    """

    parameters: int
    gradients: int
    optimizer: int
    buffers: int

    @property
    def total(self) -> int:
        return self.parameters + self.gradients + self.optimizer + self.buffers


def memory_estimate(
    group_sizes: Sequence[int],
    *,
    zero_stage: Literal[0, 1, 2],
    precision: Literal["fp32", "bf16"],
    data_ranks: int,
    bucket_elements: int = REDUCE_BUCKET_ELEMENTS,
) -> MemoryEstimate:
    """What DeepSpeed 0.19.8 allocates for a rank's parameters, `group_sizes` of them in the optimizer's groups, under
    AdamW with fp32 accumulation of gradients.

    Read in its sources and measured (`tests/trainer/parallel/test_memory.py`):

    * no ZeRO, fp32: torch's own AdamW, nothing flattened.
    * ZeRO-1 and 2: a group is flattened and filled up to an even number of elements per rank. A rank's partition has an
      fp32 master copy, in fp32 as in bf16, and two moments.
    * Gradients are fp32: all of them under ZeRO-1, the partition under ZeRO-2, where a parameter that several
      partitions share is left whole on each in fp32. Not counted here: of every group, less than its two largest
      parameters, so up to the whole embedding and heads, which are groups of few parameters.

    ValueError for bf16 without ZeRO, which keeps no fp32 master copy.
    """
    whole = sum(group_sizes)
    if zero_stage == 0:
        if precision == "bf16":
            raise ValueError("zero_stage=0 has no fp32 master weights for bf16; use 1 or 2")
        return MemoryEstimate(parameters=FP32 * whole, gradients=FP32 * whole, optimizer=2 * FP32 * whole, buffers=0)
    unit = _PARTITION_ALIGNMENT * data_ranks
    flat = sum(-(-size // unit) * unit for size in group_sizes)
    width = FP32 if precision == "fp32" else BF16
    # In bf16 ZeRO-1 is another class of DeepSpeed's: it accumulates in one flat buffer and reduces that in place.
    num_buckets = {(1, "fp32"): 1, (1, "bf16"): 0}.get((zero_stage, precision), 2)  # two where reduction overlaps
    return MemoryEstimate(
        parameters=width * flat,
        gradients=FP32 * flat // (data_ranks if zero_stage == 2 else 1),
        optimizer=3 * FP32 * flat // data_ranks,
        buffers=num_buckets * width * bucket_elements,
    )
