"""How fast a training went, measured against what the device could do."""

from dataclasses import dataclass
from typing import Literal

_TERA = 10**12

PEAK_BF16_TFLOPS = {
    "NVIDIA B200": 2250.0,
    "NVIDIA H200": 989.5,
    "NVIDIA H100 80GB HBM3": 989.5,
    "NVIDIA H100 PCIe": 756.5,
    "NVIDIA A100-SXM4-80GB": 312.0,
    "NVIDIA A100-SXM4-40GB": 312.0,
    "NVIDIA A100 80GB PCIe": 312.0,
}
"""Dense bf16 matrix multiplication with fp32 accumulation, by the name that the driver gives the device; from the
maker's data sheets, which state twice as much for sparse matrices.
"""


def peak_tflops(device_name: str, precision: Literal["fp32", "bf16"]) -> float | None:
    """Peak of one device in TFLOP/s; None where it is not known, which fp32 never is: whether it runs on matrix units
    is a setting.
    """
    return PEAK_BF16_TFLOPS.get(device_name) if precision == "bf16" else None


@dataclass(kw_only=True, slots=True, frozen=True)
class Throughput:
    """What `num_devices` did together in `seconds`. tokens: positions that are not padding."""

    tokens: int
    seconds: float
    num_devices: int

    @property
    def tokens_per_second_per_device(self) -> float:
        return self.tokens / self.seconds / self.num_devices

    def tflops_per_device(self, operations: float) -> float:
        """Achieved TFLOP/s of one device, given the floating-point operations of all."""
        return operations / self.seconds / self.num_devices / _TERA

    def utilization(self, operations: float, peak: float | None) -> float | None:
        """Share of the peak (TFLOP/s of one device); None where that is not known."""
        return None if peak is None else self.tflops_per_device(operations) / peak
