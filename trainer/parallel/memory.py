"""Bytes that one rank holds of a model under DeepSpeed: parameters, gradients and optimizer state, and what a step
needs for a moment. Activations are the caller's to count.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from triptych.trainer.engine.config import REDUCE_BUCKET_ELEMENTS

FP32, BF16 = 4, 2
_PARTITION_ALIGNMENT = 2  # elements per rank, for NCCL
_BUCKETS_AT_ONCE = 3
_FLAT_REDUCTION_ELEMENTS = 500_000_000  # DeepSpeed 0.19.8, `engine.MEMORY_OPT_ALLREDUCE_SIZE`


@dataclass(kw_only=True, slots=True, frozen=True)
class MemoryEstimate:
    """Bytes on one rank between the last backward pass and the optimizer's step, when all of it is there.

    buffers: where gradients are gathered before they are reduced. ZeRO-1 in fp32 keeps it until the step, ZeRO-2 during
    each backward pass; the CPU backs only the pages that are written.

    reducing: besides all that, while a bucket of gradients is reduced, the last one of a backward pass under ZeRO-2, in
    the step otherwise; no activations are left then. transient_gradients: of them, what a pass over the batch's first
    micro-batch has yet to make, while its activations are there.
    """

    parameters: int
    gradients: int
    optimizer: int
    buffers: int
    reducing: int = 0
    transient_gradients: int = 0

    @property
    def total(self) -> int:
        return self.parameters + self.gradients + self.optimizer + self.buffers

    def peak(self, activations: int, *, num_micro_batches: int) -> int:
        """The most that is held at one time. activations: the most that the micro-batches of one rank keep at once.

        Of several micro-batches, the last finds the gradients of the others there; with one alone, activations go as
        gradients come.
        """
        passing = activations if num_micro_batches > 1 else max(0, activations - self.transient_gradients)
        return self.total + max(passing, self.reducing)


def memory_estimate(
    group_sizes: Sequence[int],
    *,
    zero_stage: Literal[0, 1, 2],
    precision: Literal["fp32", "bf16"],
    data_ranks: int,
    bucket_elements: int = REDUCE_BUCKET_ELEMENTS,
    largest_parameter: int = 0,
) -> MemoryEstimate:
    """What DeepSpeed 0.19.8 allocates for a rank's parameters, `group_sizes` of them in the optimizer's groups, under
    AdamW with fp32 accumulation of gradients.

    Read in its sources and measured (`tests/trainer/parallel/test_memory.py`):

    * no ZeRO, fp32: torch's own AdamW, nothing flattened; fused, so that it takes no memory of its own.
    * ZeRO-1 and 2: a group is flattened and filled up to an even number of elements per rank. A rank's partition has an
      fp32 master copy, in fp32 as in bf16, and two moments.
    * Gradients are fp32: all of them under ZeRO-1, the partition under ZeRO-2, where a parameter that several
      partitions share is left whole on each in fp32. Not counted here: of every group, less than its two largest
      parameters, so up to the whole embedding and heads, which are groups of few parameters.
    * Reducing: ZeRO-0 copies a bucket of gradients into one flat tensor; bf16 under ZeRO-1 the flat gradients of whole
      groups, as many as 500 million elements take, but none where a group is alone; ZeRO-2 a bucket as it came, and
      again in fp32 if it is not. Where there is more than one bucket, ZeRO-2 holds about three of them so, and ZeRO-1
      in fp32 one: measured, not read; of ZeRO-2 it depends on when messages end. largest_parameter, elements, is
      reduced alone if it does not fit in a bucket. The optimizer's step needs less than any of these.

    ValueError for bf16 without ZeRO, which keeps no fp32 master copy.
    """
    whole = sum(group_sizes)
    if zero_stage == 0:
        if precision == "bf16":
            raise ValueError("zero_stage=0 has no fp32 master weights for bf16; use 1 or 2")
        return MemoryEstimate(
            parameters=FP32 * whole,
            gradients=FP32 * whole,
            optimizer=2 * FP32 * whole,
            buffers=0,
            reducing=FP32 * min(whole, max(bucket_elements, largest_parameter)),
            transient_gradients=FP32 * whole,
        )
    unit = _PARTITION_ALIGNMENT * data_ranks
    flat_sizes = [-(-size // unit) * unit for size in group_sizes]
    flat = sum(flat_sizes)
    width = FP32 if precision == "fp32" else BF16
    # In bf16 ZeRO-1 is another class of DeepSpeed's: it accumulates in one flat buffer and reduces that in place.
    num_buckets = {(1, "fp32"): 1, (1, "bf16"): 0}.get((zero_stage, precision), 2)  # two where reduction overlaps
    gradients = FP32 * flat // (data_ranks if zero_stage == 2 else 1)
    return MemoryEstimate(
        parameters=width * flat,
        gradients=gradients,
        optimizer=3 * FP32 * flat // data_ranks,
        buffers=num_buckets * width * bucket_elements,
        reducing=_reducing(flat_sizes, zero_stage, width, bucket_elements, largest_parameter),
        transient_gradients=0 if (zero_stage, precision) == (1, "bf16") else gradients,
    )


def _reducing(
    flat_sizes: Sequence[int], zero_stage: int, width: int, bucket_elements: int, largest_parameter: int
) -> int:
    """Bytes that ZeRO takes to reduce gradients."""
    whole, bucket = sum(flat_sizes), max(bucket_elements, largest_parameter)
    several = whole > bucket
    if zero_stage == 2:
        copies = width if width == FP32 else width + FP32
        return copies * min(whole, _BUCKETS_AT_ONCE * bucket) if several else copies * whole
    if width == FP32:
        return FP32 * bucket if several else 0
    together: list[list[int]] = [[]]
    for size in flat_sizes:
        if sum(together[-1]) > _FLAT_REDUCTION_ELEMENTS:
            together.append([])
        together[-1].append(size)
    return max((FP32 * sum(sizes) for sizes in together if len(sizes) > 1), default=0)
