"""What the model takes for granted, each figure with its reason; `calibration` fits some of them to measurements."""

from dataclasses import dataclass, replace

from triptych.launch.planning.hardware.devices import Architecture, Device
from triptych.launch.planning.hardware.interconnect import Interconnect


@dataclass(kw_only=True, slots=True, frozen=True)
class Assumptions:
    """matmul_efficiency: share of the peak that products of large matrices reach. matmul_half_size: rows, columns and
    depth cost as if the product were larger by h/m + h/n + h/k (tiles and waves that are not full, our form).
    attention_efficiency: share of the peak that fused attention reaches with heads of 128. fp8_efficiency: what fp8
    reaches of its peak, over what bf16 reaches of its own (scaling and casting take the rest).

    memory_efficiency: share of the memory's bandwidth that element-wise kernels reach. elementwise_factor: their
    traffic over what the model counts, which is one kernel for each norm, addition and activation: 1 where they are
    fused; the default, where torch runs one after the other, was fitted with the efficiencies. logit_bytes: read and
    written for one logit of the loss, both passes. optimizer_bytes: of one parameter in AdamW with fp32 master weights:
    4 read and 3 written of 4 bytes, gradient's norm and clipping 3 times 4, the copy in the precision of training.

    node_efficiency, network_efficiency: share of the nominal bandwidth that large messages see. node_latency_seconds,
    network_latency_seconds: of one message. tensor_overlap: share of tensor-parallel messages behind computation.
    data_overlap: largest share of data-parallel messages that computation can hide, where they overlap at all.
    pipeline_overlap: the same between stages of an interleaved schedule.

    seconds_per_launch: of one kernel on the host, the floor of what a layer takes; launches_forward: kernels of a
    layer's forward pass, the backward has twice as many. step_seconds: of a step besides all that.

    fragmentation: of the activations and the step's transients, what the allocator cannot use. context_gib: of CUDA's
    context, NCCL's buffers, and the libraries' work space.
    """

    matmul_efficiency: float
    attention_efficiency: float
    matmul_half_size: float = 96.0
    fp8_efficiency: float = 0.85
    memory_efficiency: float = 0.8
    elementwise_factor: float = 2.11
    logit_bytes: float = 30.0
    optimizer_bytes: float = 42.0
    node_efficiency: float = 0.75
    network_efficiency: float = 0.8
    node_latency_seconds: float = 4e-6
    network_latency_seconds: float = 15e-6
    tensor_overlap: float = 0.0
    data_overlap: float = 0.9
    pipeline_overlap: float = 0.5
    seconds_per_launch: float = 4e-6
    launches_forward: int = 24
    step_seconds: float = 0.005
    fragmentation: float = 0.08
    context_gib: float = 3.0

    def interconnect(self, device: Device) -> Interconnect:
        """As programs see it."""
        return Interconnect(
            node_bandwidth=device.link_gb_per_second * 1e9 * self.node_efficiency,
            network_bandwidth=device.network_gb_per_second * 1e9 * self.network_efficiency,
            node_latency_seconds=self.node_latency_seconds,
            network_latency_seconds=self.network_latency_seconds,
            per_node=device.per_node,
        )


FITTED: dict[Architecture, tuple[float, float]] = {
    "ampere": (0.794, 0.334),
    "hopper": (0.604, 0.196),
}
"""matmul_efficiency and attention_efficiency of an architecture, by `published.fit` on the rows that
results/README.md names. Blackwell and others have Hopper's, the last that was measured: a guess.
"""


def default_assumptions(device: Device, **changes: float) -> Assumptions:
    """Of a device's architecture, with some of them changed."""
    matmul, attention = FITTED.get(device.architecture, FITTED["hopper"])
    return replace(Assumptions(matmul_efficiency=matmul, attention_efficiency=attention), **changes)
