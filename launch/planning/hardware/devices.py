"""Devices by name, with their makers' figures; others from a YAML file."""

import difflib
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import yaml

Architecture = Literal["ampere", "hopper", "blackwell", "other"]


@dataclass(kw_only=True, slots=True, frozen=True)
class Device:
    """One accelerator. peak_tflops: dense bf16 with fp32 accumulation; peak_fp8_tflops: the same of fp8, 0 where there
    is none. memory_gib: as CUDA states it, before contexts take theirs. memory_gb_per_second: of its own memory.
    link_gb_per_second: to all others of its node together, in one direction. network_gb_per_second: to other nodes, in
    one direction, its share of the node's adapters. source: where the figures are from, in words.

    ValueError for a figure that is not above 0.
    """

    name: str
    architecture: Architecture
    peak_tflops: float
    memory_gib: float
    memory_gb_per_second: float
    link_gb_per_second: float
    network_gb_per_second: float
    per_node: int
    source: str
    peak_fp8_tflops: float = 0.0

    def __post_init__(self) -> None:
        figures = ("peak_tflops", "memory_gib", "memory_gb_per_second", "link_gb_per_second", "network_gb_per_second")
        for name in (*figures, "per_node"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} of device {self.name} is {getattr(self, name)}; give a number above 0")
        if self.per_node != int(self.per_node):
            raise ValueError(f"per_node of device {self.name} is {self.per_node}; give a whole number")

    @property
    def peak(self) -> float:
        """FLOP/s."""
        return self.peak_tflops * 1e12


_HGX = "node of 8, each with a network adapter of its own: DGX {} user guide"

DEVICES: dict[str, Device] = {
    device.name: device
    for device in (
        Device(
            name="a100-40gb",
            architecture="ampere",
            peak_tflops=312.0,
            memory_gib=39.4,
            memory_gb_per_second=1555,
            link_gb_per_second=300,
            network_gb_per_second=25,
            per_node=8,
            source="NVIDIA A100 data sheet, SXM 40 GB: 312 TFLOP/s, 1,555 GB/s, NVLink 600 GB/s both directions; "
            + _HGX.format("A100 (HDR InfiniBand, 200 Gb/s)"),
        ),
        Device(
            name="a100-80gb",
            architecture="ampere",
            peak_tflops=312.0,
            memory_gib=79.1,
            memory_gb_per_second=2039,
            link_gb_per_second=300,
            network_gb_per_second=25,
            per_node=8,
            source="NVIDIA A100 data sheet, SXM 80 GB: 312 TFLOP/s, 2,039 GB/s, NVLink 600 GB/s both directions; "
            + _HGX.format("A100 (HDR InfiniBand, 200 Gb/s)"),
        ),
        Device(
            name="h100",
            architecture="hopper",
            peak_tflops=989.5,
            peak_fp8_tflops=1979,
            memory_gib=79.1,
            memory_gb_per_second=3350,
            link_gb_per_second=450,
            network_gb_per_second=50,
            per_node=8,
            source="NVIDIA H100 data sheet, SXM: 1,979 TFLOP/s bf16 with sparsity, half of it dense; 3.35 TB/s; NVLink "
            "900 GB/s both directions; " + _HGX.format("H100 (NDR InfiniBand, 400 Gb/s)"),
        ),
        Device(
            name="h100-pcie",
            architecture="hopper",
            peak_tflops=756.5,
            peak_fp8_tflops=1513,
            memory_gib=79.1,
            memory_gb_per_second=2000,
            link_gb_per_second=64,
            network_gb_per_second=25,
            per_node=8,
            source="NVIDIA H100 data sheet, PCIe: 1,513 TFLOP/s bf16 with sparsity, half of it dense; 2 TB/s; PCIe "
            "gen 5 128 GB/s both directions; the network, 200 Gb/s for each, is an assumption",
        ),
        Device(
            name="h200",
            architecture="hopper",
            peak_tflops=989.5,
            peak_fp8_tflops=1979,
            memory_gib=139.7,
            memory_gb_per_second=4800,
            link_gb_per_second=450,
            network_gb_per_second=50,
            per_node=8,
            source="NVIDIA H200 data sheet, SXM: 1,979 TFLOP/s bf16 with sparsity, half of it dense; 4.8 TB/s; NVLink "
            "900 GB/s both directions; " + _HGX.format("H200 (NDR InfiniBand, 400 Gb/s)"),
        ),
        Device(
            name="b200",
            architecture="blackwell",
            peak_tflops=2250.0,
            peak_fp8_tflops=4500,
            memory_gib=178.3,
            memory_gb_per_second=8000,
            link_gb_per_second=900,
            network_gb_per_second=50,
            per_node=8,
            source="NVIDIA DGX B200 data sheet, an eighth of it: 72 PFLOP/s fp8 with sparsity, so 2.25 PFLOP/s dense "
            "bf16; 1,440 GB, 64 TB/s; NVLink 14.4 TB/s both directions; adapters of 400 Gb/s",
        ),
    )
}
"""By the names that `--gpu` takes. Memory is what `cudaDeviceProp.totalGlobalMem` says, as errors of torch's allocator
quote it: the makers' "80 GB" are GiB, less what driver and error correction hold back. Peaks are those of
`trainer.throughput`, which a test holds against these.
"""

DRIVER_NAMES: dict[str, str] = {
    "NVIDIA A100-SXM4-40GB": "a100-40gb",
    "NVIDIA A100-SXM4-80GB": "a100-80gb",
    "NVIDIA H100 80GB HBM3": "h100",
    "NVIDIA H100 PCIe": "h100-pcie",
    "NVIDIA H200": "h200",
    "NVIDIA B200": "b200",
}
"""What the driver calls a device, to its name here."""


def named_device(name: str) -> Device:
    """A device of the table, by its name or its driver's, or the one that a YAML file describes (a path that ends in
    .yaml or .yml, with the fields of `Device`). ValueError, with the known ones, if there is none.
    """
    if name.endswith((".yaml", ".yml")):
        return _from_file(Path(name))
    key = DRIVER_NAMES.get(name, name.lower())
    if key not in DEVICES:
        near = difflib.get_close_matches(key, DEVICES, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ValueError(f"--gpu {name} is not known; {hint}there are {', '.join(DEVICES)}, or give a .yaml file")
    return DEVICES[key]


def _from_file(path: Path) -> Device:
    if not path.is_file():
        raise ValueError(
            f"--gpu {path} is no file; give one with the fields of a device, or one of {', '.join(DEVICES)}"
        )
    try:
        document: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML; write one field of a device on each line") from error
    given: dict[str, Any] = {"name": path.stem, "architecture": "other", "per_node": 8, "source": f"{path.name}"}
    known = {field.name for field in fields(Device)}
    if not isinstance(document, dict) or not set(document) <= known:
        unknown = ", ".join(sorted(map(str, set(document) - known))) if isinstance(document, dict) else "no fields"
        raise ValueError(f"{path} has {unknown}; a device has {', '.join(sorted(known))}")
    given |= document
    missing = sorted(known - {"peak_fp8_tflops"} - set(given))
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}; add what the data sheet says")
    words = {"name", "architecture", "source"}
    for name in known & set(given):
        value = given[name]
        if (name in words) != isinstance(value, str) or isinstance(value, bool):
            raise ValueError(f"{name} in {path} is {value!r}; give {'text' if name in words else 'a number'}")
    if given["architecture"] not in ("ampere", "hopper", "blackwell", "other"):
        raise ValueError(f"architecture in {path} is {given['architecture']}; give ampere, hopper, blackwell or other")
    if isinstance(given["per_node"], float) and given["per_node"].is_integer():
        given["per_node"] = int(given["per_node"])
    return Device(**given)
