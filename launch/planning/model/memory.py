"""Bytes of a rank at its fullest: what the engine holds, activations, and what is lost between them."""

from dataclasses import dataclass

from triptych.launch.planning.hardware.devices import Device
from triptych.launch.planning.model.activations import ActivationBytes, Form, activation_bytes
from triptych.launch.planning.model.assumptions import Assumptions
from triptych.launch.planning.model.step import layers_of_stages
from triptych.launch.planning.model.workload import Workload
from triptych.trainer.parallel.memory import MemoryEstimate, memory_estimate

GIB = 2**30
_INPUT_BYTES = 64  # of a position of every micro-batch of a step: tokens, masks, roles, times, labels; a guess


@dataclass(kw_only=True, slots=True, frozen=True)
class RankMemory:
    """Of the fullest rank, bytes. held: by the engine between backward pass and step. fragmentation: of what comes and
    goes, an allowance. context: the driver's and the libraries'. capacity: of the device.
    """

    stage: int
    held: MemoryEstimate
    activations: ActivationBytes
    inputs: int
    num_micro_batches: int
    fragmentation: int
    context: int
    capacity: int

    @property
    def allocated(self) -> int:
        """The most that tensors take at one time: what torch's allocator calls allocated."""
        return self.held.peak(self.activations.total, num_micro_batches=self.num_micro_batches) + self.inputs

    @property
    def total(self) -> int:
        return self.allocated + self.fragmentation + self.context

    @property
    def fits(self) -> bool:
        return self.total <= self.capacity

    @property
    def parts(self) -> dict[str, int]:
        """That add up to the total. transient: what the peak has beyond all that is held."""
        held = self.held
        return {
            "parameters": held.parameters,
            "gradients": held.gradients,
            "optimizer": held.optimizer,
            "buffers": held.buffers,
            "activations and transients": self.allocated - held.total,
            "fragmentation": self.fragmentation,
            "context": self.context,
        }


def rank_memory(work: Workload, device: Device, assumptions: Assumptions, form: Form = "cuda") -> RankMemory:
    """Of the fullest stage's rank. ValueError for ZeRO-3, which our engine does not run."""
    stages = [_stage_memory(work, device, assumptions, stage, form) for stage in range(work.layout.pipeline)]
    return max(stages, key=lambda memory: memory.total)


def group_sizes(work: Workload, stage: int) -> list[int]:
    """Parameters of a stage's rank in the optimizer's groups, about: embedding, matrices, heads, vectors."""
    shape, layout = work.shape, work.layout
    number = layers_of_stages(work)[stage]
    first, last = stage == 0, stage == layout.pipeline - 1
    sizes = [
        shape.embedding_rows * shape.hidden_size // layout.tensor if first else 0,
        number * shape.layer_parameters // layout.tensor,
        shape.head_parameters // layout.tensor if last and not shape.tied else 0,
        number * shape.layer_vectors
        + (shape.hidden_size if last else 0)
        + (shape.learned_positions * shape.hidden_size if first else 0),
    ]
    return [size for size in sizes if size]


def _largest_parameter(work: Workload, stage: int) -> int:
    """Elements, of a stage's rank."""
    shape, layout = work.shape, work.layout
    columns = [(2 if shape.gated else 1) * shape.ffn_hidden_size]
    columns += [shape.embedding_rows] if stage == 0 else []
    columns += [head.columns for head in shape.heads] if stage == layout.pipeline - 1 else []
    return max(columns) * shape.hidden_size // layout.tensor


def _stage_memory(work: Workload, device: Device, assumptions: Assumptions, stage: int, form: Form) -> RankMemory:
    zero = work.layout.zero_stage
    if zero == 3:
        raise ValueError("zero_stage=3 partitions parameters, which the engine does not; take 0, 1 or 2")
    held = memory_estimate(
        group_sizes(work, stage),
        zero_stage=zero,
        precision="fp32" if work.precision == "fp32" else "bf16",
        data_ranks=work.layout.data,
        largest_parameter=_largest_parameter(work, stage),
    )
    activations = activation_bytes(work, stage, form)
    comes_and_goes = held.peak(activations.total, num_micro_batches=work.num_micro_batches) - held.total
    return RankMemory(
        stage=stage,
        held=held,
        activations=activations,
        inputs=_INPUT_BYTES * work.positions * work.num_micro_batches,
        num_micro_batches=work.num_micro_batches,
        fragmentation=round(assumptions.fragmentation * comes_and_goes),
        context=round(assumptions.context_gib * GIB) if form == "cuda" else 0,
        capacity=round(device.memory_gib * GIB),
    )
