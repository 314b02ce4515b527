"""Seconds of a training step on the slowest device, by part."""

from dataclasses import dataclass

from triptych.launch.planning.hardware.devices import Device
from triptych.launch.planning.hardware.interconnect import all_reduce_seconds, gather_seconds, send_seconds
from triptych.launch.planning.model.assumptions import Assumptions
from triptych.launch.planning.model.compute import Compute, Pass
from triptych.launch.planning.model.operations import step_operations
from triptych.launch.planning.model.workload import Workload
from triptych.trainer.parallel.stages import split_layers


@dataclass(kw_only=True, slots=True, frozen=True)
class StepTime:
    """Seconds of a step, by part; they add up. matmul, attention, memory: computing on all micro-batches (memory: what
    goes at its speed). launches: waiting for the host. tensor, pipeline, data: messages that nothing hides. bubble:
    waiting for other stages, for uneven ones, too. optimizer: the update. other: the fixed part.

    operations: of the step over all devices, asked for; recomputation and padding are not.
    """

    matmul: float
    attention: float
    memory: float
    launches: float
    tensor: float
    pipeline: float
    bubble: float
    data: float
    optimizer: float
    other: float
    operations: float
    tokens: float
    num_devices: int
    peak: float

    @property
    def parts(self) -> dict[str, float]:
        names = (
            *("matmul", "attention", "memory", "launches", "tensor", "pipeline", "bubble", "data", "optimizer"),
            "other",
        )
        return {name: getattr(self, name) for name in names}

    @property
    def seconds(self) -> float:
        return sum(self.parts.values())

    @property
    def tokens_per_second(self) -> float:
        """Over all devices, padding left out."""
        return self.tokens / self.seconds

    @property
    def mfu(self) -> float:
        """Operations asked for over what the peak would do in the time."""
        return self.operations / self.seconds / self.num_devices / self.peak


@dataclass(kw_only=True, slots=True, frozen=True)
class _Stage:
    """A stage on one micro-batch, all its chunks: computing, and messages of its tensor-parallel group."""

    compute: Pass
    tensor: float

    @property
    def total(self) -> float:
        return self.compute.total + self.tensor


def step_time(work: Workload, device: Device, assumptions: Assumptions) -> StepTime:
    """Predict it. The slowest stage sets the pace of 1F1B: m micro-batches of it, and p - 1 of a mean stage while the
    pipeline fills and empties, a v-th of them where chunks are interleaved (Narayanan et al. 2021, arXiv 2104.04473,
    section 2.2).
    """
    compute = Compute(work, device, assumptions)
    network = assumptions.interconnect(device)
    stages = _stages(work, compute, device, assumptions)
    slowest = max(stages, key=lambda stage: stage.total)
    micro_batches, layout = work.num_micro_batches, work.layout
    mean = sum(stage.total for stage in stages) / len(stages)
    bubble = (layout.pipeline - 1) * mean / layout.virtual
    boundary = work.positions * work.shape.hidden_size * work.width / (layout.tensor if layout.sequence else 1)
    stride = layout.tensor * layout.data
    sending = 0.0
    if layout.pipeline > 1:
        hidden = assumptions.pipeline_overlap if layout.virtual > 1 else 0.0
        sending = micro_batches * layout.virtual * 2 * (1 - hidden) * send_seconds(network, boundary, stride)
    total = slowest.compute.times(micro_batches)
    held = stage_parameters(work)
    updated = held / (layout.data if work.layout.zero_stage else 1)
    return StepTime(
        matmul=total.matmul,
        attention=total.attention,
        memory=total.memory,
        launches=max(0.0, total.launches - total.matmul - total.attention - total.memory),
        tensor=micro_batches * slowest.tensor,
        pipeline=sending,
        bubble=bubble,
        data=_data_seconds(work, slowest, held, device, assumptions),
        optimizer=compute.optimizer_step(updated),
        other=assumptions.step_seconds,
        operations=step_operations(work),
        tokens=work.tokens,
        num_devices=layout.num_devices,
        peak=device.peak,
    )


def chunk_sizes(work: Workload) -> tuple[int, ...]:
    """Layers of each chunk, in the order of the model."""
    layout = work.layout
    chunks = layout.pipeline * layout.virtual
    return layout.stage_layers or split_layers(work.shape.num_layers, chunks, first_cost=0.0, last_cost=0.0)


def layers_of_stages(work: Workload) -> list[int]:
    """Of each stage, all its chunks together."""
    sizes = chunk_sizes(work)
    return [sum(sizes[stage :: work.layout.pipeline]) for stage in range(work.layout.pipeline)]


def stage_parameters(work: Workload) -> float:
    """That the fullest device holds, or would without ZeRO-3."""
    shape, layout = work.shape, work.layout
    layers = layers_of_stages(work)
    counts = [number * shape.layer_parameters for number in layers]
    counts[0] += shape.embedding_rows * shape.hidden_size
    counts[-1] += 0 if shape.tied and layout.pipeline == 1 else shape.head_parameters
    return max(counts) / layout.tensor


def _stages(work: Workload, compute: Compute, device: Device, assumptions: Assumptions) -> list[_Stage]:
    forward, backward, heads = compute.layer_forward(), compute.layer_backward(), compute.heads_both()
    per_layer = _tensor_seconds(work, device, assumptions)
    layers = layers_of_stages(work)
    stages = []
    for index, number in enumerate(layers):
        total = (forward + backward).times(number)
        if index == len(layers) - 1:
            total += heads
        stages.append(_Stage(compute=total, tensor=number * per_layer))
    return stages


def _tensor_seconds(work: Workload, device: Device, assumptions: Assumptions) -> float:
    """Of a layer, both passes: two reductions in each (Shoeybi et al. 2019, section 3), two more where the forward pass
    is made again. Under sequence parallelism each is a reduce-scatter and an all-gather, as many bytes; there the
    backward pass gathers each input once more (Korthikanti et al. 2022, section 4.2.2).
    """
    tensor = work.layout.tensor
    if tensor == 1:
        return 0.0
    network = assumptions.interconnect(device)
    num_bytes = work.positions * work.shape.hidden_size * work.width
    reductions = {"full": 6, "half": 4, "selective": 4, "none": 4}[work.recompute]
    seconds = reductions * all_reduce_seconds(network, num_bytes, tensor, 1)
    if work.layout.sequence:
        seconds += 2 * gather_seconds(network, num_bytes, tensor, 1)
    return (1 - assumptions.tensor_overlap) * seconds


def _data_seconds(work: Workload, slowest: _Stage, held: float, device: Device, assumptions: Assumptions) -> float:
    """Messages of the data-parallel group that computing does not hide.

    ZeRO-3 gathers parameters for both passes of every micro-batch and scatters gradients of each. The others reduce
    once in a step, which hides, with gathering the new parameters, behind one micro-batch, if at all: gradients behind
    the last one's backward pass, parameters behind the first one's forward pass. Or after every micro-batch.
    """
    layout, network = work.layout, assumptions.interconnect(device)
    ranks, stride = layout.data, layout.tensor
    if ranks == 1:
        return 0.0
    width = 4 if work.precision == "fp32" else 2
    weights = gather_seconds(network, held * width, ranks, stride)
    gradients = gather_seconds(network, held * work.gradient_bytes, ranks, stride)
    if work.reduction == "all_reduce" or layout.zero_stage == 0:
        gradients *= 2
    if layout.zero_stage == 3:
        messages = work.num_micro_batches * (2 * weights + gradients)
        return _exposed(messages, work.num_micro_batches * slowest.total, assumptions.data_overlap)
    gathered = weights if layout.zero_stage else 0.0
    if not work.overlapped:
        return gradients + gathered
    if work.each_micro_batch:
        computing = work.num_micro_batches * slowest.total
        return gathered + _exposed(work.num_micro_batches * gradients, computing, assumptions.data_overlap)
    return _exposed(gradients + gathered, slowest.total, assumptions.data_overlap)


def _exposed(messages: float, computing: float, overlap: float) -> float:
    """What is left of messages that run beside computing."""
    return max(messages - computing, (1 - overlap) * messages)
