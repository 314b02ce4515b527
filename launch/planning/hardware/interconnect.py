"""Seconds that messages between devices take: rings within a node, all adapters of a node at once between nodes."""

from dataclasses import dataclass, replace

from triptych.launch.planning.hardware.devices import Device


@dataclass(kw_only=True, slots=True, frozen=True)
class Interconnect:
    """Bandwidths that programs see, bytes per second and device in one direction, and the seconds of one message.

    node_bandwidth, network_bandwidth: within a node and between nodes. per_node: devices of a node.
    """

    node_bandwidth: float
    network_bandwidth: float
    node_latency_seconds: float
    network_latency_seconds: float
    per_node: int


NETWORKS: dict[str, float] = {
    "ndr": 50.0,
    "hdr": 25.0,
    "xdr": 100.0,
    "ethernet-400": 50.0,
    "ethernet-200": 25.0,
    "ethernet-100": 12.5,
    "ethernet-25": 3.125,
}
"""GB/s of each device between nodes, by names that `--interconnect` takes: the nominal rates of InfiniBand NDR (400
Gb/s), HDR (200), XDR (800), and of an Ethernet adapter for each device.
"""


def with_network(device: Device, name: str) -> Device:
    """The device behind another network: one of `NETWORKS`, or GB/s for each device. ValueError for anything else."""
    if name in NETWORKS:
        return replace(device, network_gb_per_second=NETWORKS[name])
    try:
        value = float(name)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ValueError(
            f"--interconnect {name} is not known; there are {', '.join(NETWORKS)}, or give GB/s for each device, as 50"
        )
    return replace(device, network_gb_per_second=value)


def gather_seconds(network: Interconnect, num_bytes: float, ranks: int, stride: int) -> float:
    """Seconds of an all-gather, or a reduce-scatter, of `num_bytes` in all over `ranks` devices `stride` apart.

    A ring moves (n - 1)/n of the bytes through every device (Thakur et al. 2005, section 4.1). Between nodes, all
    devices of the group on a node share the incoming bytes, as NCCL does with one ring for each adapter. Latency: one
    message for each other rank of a node, and a tree's depth between nodes.
    """
    if ranks <= 1 or num_bytes <= 0:
        return 0.0
    within = max(1, min(ranks, network.per_node // max(1, min(stride, network.per_node))))
    nodes = -(-ranks // within)
    seconds = num_bytes * (within - 1) / within / network.node_bandwidth + (within - 1) * network.node_latency_seconds
    if nodes == 1:
        return seconds
    between = num_bytes * (nodes - 1) / nodes / within / network.network_bandwidth
    depth = (nodes - 1).bit_length()
    return max(seconds, between) + depth * network.network_latency_seconds


def all_reduce_seconds(network: Interconnect, num_bytes: float, ranks: int, stride: int) -> float:
    """A reduce-scatter and an all-gather."""
    return 2 * gather_seconds(network, num_bytes, ranks, stride)


def send_seconds(network: Interconnect, num_bytes: float, stride: int) -> float:
    """From one device to one that is `stride` ranks away: over the network if that is another node."""
    if stride < network.per_node:
        return network.node_latency_seconds + num_bytes / network.node_bandwidth
    return network.network_latency_seconds + num_bytes / network.network_bandwidth
