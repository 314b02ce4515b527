"""Bytes of activations that a rank keeps for the backward pass: what autograd saves, tensor by tensor.

Two forms. "cpu" is torch's own operations one after the other, as the model runs without a GPU: counted there by
`torch.autograd.graph.saved_tensors_hooks`, to the byte (`tests/launch/planning/test_saved_activations.py`). "cuda" has
fused norms and a fused SwiGLU, which keep their input and one number per row: read in torch's and megatron-core's
sources, not measured.

Shape legend: T positions of a micro-batch, H hidden size, K columns of the keys, F of the FFN, all of one rank.
"""

from dataclasses import dataclass
from typing import Literal

from triptych.launch.planning.model.step import chunk_sizes
from triptych.launch.planning.model.workload import Head, Workload

Form = Literal["cpu", "cuda"]
FP32 = 4
_ROWS_AT_ONCE = 2048  # of logits in fp32, `triptych.models.cross_entropy.ROWS_AT_ONCE`


@dataclass(kw_only=True, slots=True, frozen=True)
class ActivationBytes:
    """Of one rank. layers: of all micro-batches in flight. heads: saved by read-outs and loss of one. moment: the most
    that a backward pass has besides, gradients of activations and a layer that is computed again.
    """

    layers: int
    heads: int
    moment: int

    @property
    def total(self) -> int:
        return self.layers + self.heads + self.moment


def activation_bytes(work: Workload, stage: int, form: Form = "cuda") -> ActivationBytes:
    """Of the busiest moment of pipeline stage `stage`."""
    in_flight = layers_in_flight(work, stage)
    last = stage == work.layout.pipeline - 1
    heads = sum(_head_bytes(work, head, form) for head in work.shape.heads) if last else 0
    loss = max((_loss_moment(work, head) for head in work.shape.heads), default=0) if last else 0
    layer = _layer_moment(work, form)
    # The last layer's backward pass begins when the heads' is over.
    peak = max(heads + loss, layer)
    held = min(heads, peak)
    return ActivationBytes(
        layers=round(in_flight * layer_bytes(work, form)), heads=round(held), moment=round(peak - held)
    )


def layers_in_flight(work: Workload, stage: int) -> float:
    """Layers times micro-batches whose activations a stage keeps at once, in megatron-core's schedules: 1F1B warms up
    with as many micro-batches as there are stages behind; the interleaved one with twice as many chunks, and all
    chunks but one of a group before (Narayanan et al. 2021, section 2.2; Korthikanti et al. 2022, appendix C).
    """
    layout, micro_batches = work.layout, work.num_micro_batches
    sizes = chunk_sizes(work)[stage :: layout.pipeline]
    if layout.virtual == 1:
        return sizes[0] * min(micro_batches, layout.pipeline - stage)
    warm_up = 2 * (layout.pipeline - stage - 1) + (layout.virtual - 1) * layout.pipeline + 1
    passes = min(micro_batches * layout.virtual, warm_up)
    return passes * sum(sizes) / len(sizes)


def layer_bytes(work: Workload, form: Form) -> float:
    """That one layer saves of one micro-batch."""
    hidden = work.shape.hidden_size
    if work.recompute == "full":
        return work.positions * hidden * work.width * _whole_share(work)
    saved = _saved_by_layer(work, form)
    return saved / 2 if work.recompute == "half" else saved


def _saved_by_layer(work: Workload, form: Form) -> float:
    shape, tensor, width = work.shape, work.layout.tensor, work.width
    T, H, K, F = work.positions, shape.hidden_size, shape.keys_size / tensor, shape.ffn_hidden_size / tensor
    split, whole = H / tensor, H * _whole_share(work)
    norms = 2 + (1 if shape.post_norm else 0)
    # Inputs of both pairs of products; rotated queries and keys, and the one tensor that holds values and the rest.
    elements = 2 * whole + 2 * split + K + (split + 2 * K)
    elements += 2 * whole if shape.layer_scale else 0
    per_norm = 2 if form == "cpu" else 1  # what is normalised, and on a CPU again before the gains
    norm_width = FP32 if form == "cpu" else width
    kept = norms * per_norm * whole
    if shape.qk_norm:
        # The norm's input: a part of the one tensor, but where fp32 makes a copy, and queries of a group are brought
        # together.
        copies = norm_width > width
        kept += split if copies or shape.num_groups < shape.num_heads else 0
        kept += K if copies else 0
        kept += split + K if form == "cpu" else 0
    elements += (5 if form == "cpu" else 3) * F if shape.gated else 2 * F
    rows = norms * (_whole_share(work)) + (shape.num_heads + shape.num_groups) / tensor * shape.qk_norm
    rows += shape.num_heads / tensor if shape.softmax and work.recompute != "selective" else 0
    if work.attention == "scores" and work.recompute != "selective":
        scores = shape.num_heads / tensor * work.rows.attended
        elements += 2 * scores + (scores / width if shape.dropout else 0)
    dropped = 2 * whole / 8 if shape.dropout else 0  # a bit for each element
    angles = 4 * work.rows.length * shape.head_dim * width if shape.rotary else 0
    return T * (elements * width + kept * norm_width + rows * FP32 + dropped) + angles


def _whole_share(work: Workload) -> float:
    """Of the positions between the tensor-parallel regions, those of this rank."""
    return 1 / work.layout.tensor if work.layout.sequence else 1.0


def _head_bytes(work: Workload, head: Head, form: Form) -> float:
    """Picked rows, as they come, normalised and with gains; the logits, and for each row its normaliser and label."""
    rows = work.positions * head.most
    hidden = work.shape.hidden_size
    picked = rows * hidden * (2 * FP32 + work.width if form == "cpu" else 2 * work.width)
    return picked + rows * (head.columns / work.layout.tensor * work.width + 16)


def _loss_moment(work: Workload, head: Head) -> float:
    """The gradient of the logits, and copies in fp32 of some rows at a time: as they are, and their exponentials."""
    rows, columns = work.positions * head.most, head.columns / work.layout.tensor
    return rows * columns * work.width + 2 * min(rows, _ROWS_AT_ONCE) * columns * FP32


def _layer_moment(work: Workload, form: Form) -> float:
    """Gradients of one layer's activations: those of the FFN's two inner tensors, and of two of the hidden size."""
    shape, tensor = work.shape, work.layout.tensor
    inner = (3 if shape.gated else 2) * shape.ffn_hidden_size / tensor
    gradients = work.positions * work.width * (inner + 2 * shape.hidden_size)
    again = _saved_by_layer(work, form) if work.recompute == "full" else 0.0
    return gradients + again
