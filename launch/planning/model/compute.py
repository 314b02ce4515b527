"""Seconds of computation: products of matrices at a share of the peak that depends on their shape, attention at its
own, everything else at the memory's speed.

Shape legend: T positions of a micro-batch, m, n, k rows, columns and depth of a product.
"""

from dataclasses import dataclass

from triptych.launch.planning.hardware.devices import Device
from triptych.launch.planning.model.assumptions import Assumptions
from triptych.launch.planning.model.workload import Head, Workload


@dataclass(kw_only=True, slots=True, frozen=True)
class Pass:
    """Seconds of one pass, forward or backward, by what takes them."""

    matmul: float = 0.0
    attention: float = 0.0
    memory: float = 0.0
    launches: float = 0.0

    @property
    def total(self) -> float:
        """What the device takes, or the host that launches its kernels, if that is longer."""
        return max(self.matmul + self.attention + self.memory, self.launches)

    def __add__(self, other: "Pass") -> "Pass":
        return Pass(
            matmul=self.matmul + other.matmul,
            attention=self.attention + other.attention,
            memory=self.memory + other.memory,
            launches=self.launches + other.launches,
        )

    def times(self, factor: float) -> "Pass":
        return Pass(
            matmul=factor * self.matmul,
            attention=factor * self.attention,
            memory=factor * self.memory,
            launches=factor * self.launches,
        )


class Compute:
    """Seconds of a workload's parts on one device."""

    def __init__(self, work: Workload, device: Device, assumptions: Assumptions) -> None:
        self._work = work
        self._device = device
        self._assumed = assumptions
        self._bandwidth = device.memory_gb_per_second * 1e9 * assumptions.memory_efficiency

    def layer_forward(self) -> Pass:
        """One layer on one micro-batch."""
        return Pass(
            matmul=sum(self.matmul(*product) for product in self._products()),
            attention=self._attention_forward(),
            memory=self._memory(self._elements(backward=False)),
            launches=self._assumed.launches_forward * self._assumed.seconds_per_launch,
        )

    def layer_backward(self) -> Pass:
        """With what is computed again; two products for each of the forward pass."""
        products = [
            each for m, n, k in self._products() for each in ((m, k, n), (k, n, m))
        ]  # the gradients of the input and of the weights
        own = Pass(
            matmul=sum(self.matmul(*product) for product in products),
            attention=self._attention_backward(),
            memory=self._memory(self._elements(backward=True)),
            launches=2 * self._assumed.launches_forward * self._assumed.seconds_per_launch,
        )
        forward = self.layer_forward()
        again = {
            "none": Pass(),
            "selective": Pass(attention=forward.attention),
            "half": Pass(matmul=forward.matmul, memory=2 * forward.memory, launches=forward.launches).times(0.5),
            "full": forward,
        }
        return own + again[self._work.recompute]

    def heads_both(self) -> Pass:
        """Read-out and loss, forward and backward."""
        return sum((self._head(head) for head in self._work.shape.heads), Pass())

    def _head(self, head: Head) -> Pass:
        work = self._work
        rows = work.positions * head.share
        columns = head.columns / work.layout.tensor
        hidden = work.shape.hidden_size
        products = ((rows, columns, hidden), (rows, hidden, columns), (hidden, columns, rows))
        return Pass(
            matmul=sum(self.matmul(*product, low=False) for product in products),
            memory=self._memory(rows * columns * self._assumed.logit_bytes + 6 * rows * hidden * work.width),
        )

    def optimizer_step(self, parameters: float) -> float:
        """Of as many parameters as this device updates."""
        return parameters * self._assumed.optimizer_bytes / self._bandwidth

    def matmul(self, m: float, n: float, k: float, *, low: bool = True) -> float:
        """low: whether the workload's fp8 is for it."""
        assumed, device = self._assumed, self._device
        fp8 = low and self._work.precision == "fp8" and device.peak_fp8_tflops
        peak = device.peak_fp8_tflops * 1e12 * assumed.fp8_efficiency if fp8 else device.peak
        if self._work.precision == "fp32":
            peak /= 15  # torch does not use TF32 unless told; data sheets have 19.5 of 312 and 67 of 989 TFLOP/s
        waste = 1 + assumed.matmul_half_size * (1 / m + 1 / n + 1 / k)
        computing = 2 * m * n * k * waste / (peak * assumed.matmul_efficiency)
        return max(computing, self._memory((m * n + m * k + n * k) * self._work.width))

    def _products(self) -> list[tuple[float, float, float]]:
        """Of a layer's forward pass on this device."""
        work, shape, tensor = self._work, self._work.shape, self._work.layout.tensor
        hidden, ffn, T = shape.hidden_size, shape.ffn_hidden_size / tensor, work.positions
        return [
            (T, (hidden + 2 * shape.keys_size) / tensor, hidden),
            (T, hidden, hidden / tensor),
            (T, (2 if shape.gated else 1) * ffn, hidden),
            (T, hidden, ffn),
        ]

    def _pairs(self) -> float:
        """Positions that attend to each other, of a micro-batch."""
        return self._work.positions * self._work.rows.attended

    def _attention_forward(self) -> float:
        work, shape = self._work, self._work.shape
        operations = 4 * shape.hidden_size / work.layout.tensor * self._pairs()
        if work.attention == "scores":
            return self._scores(operations, passes=5.5)
        return self._fused(operations)

    def _attention_backward(self) -> float:
        """Fused: five products for the forward's two, for scores are made again (Dao et al. 2022, appendix B.4)."""
        work, shape = self._work, self._work.shape
        operations = 4 * shape.hidden_size / work.layout.tensor * self._pairs()
        if work.attention == "scores":
            return self._scores(2 * operations, passes=9.5)
        return self._fused(2.5 * operations)

    def _fused(self, operations: float) -> float:
        """A causal mask leaves out half of the blocks. Heads of 64 reach 0.84 of what heads of 128 do (read off figure
        4 of FlashAttention-2, arXiv 2307.08691). fp32 has no matrix units.
        """
        half = 0.5 if self._work.rows.causal else 1.0
        share = self._assumed.attention_efficiency * min(1.0, self._work.shape.head_dim / 128) ** 0.25
        peak = self._device.peak / (15 if self._work.precision == "fp32" else 1)
        return half * operations / (peak * share)

    def _scores(self, operations: float, passes: float) -> float:
        """Scores are written and read: by both products, softmax and dropout. All pairs, masked or not."""
        work, shape = self._work, self._work.shape
        length = work.rows.attended
        waste = 1 + self._assumed.matmul_half_size * (2 / length + 1 / shape.head_dim)
        computing = operations * waste / (self._device.peak * self._assumed.matmul_efficiency)
        scores = self._pairs() * shape.num_heads / work.layout.tensor
        return computing + self._memory(scores * passes * work.width)

    def _elements(self, *, backward: bool) -> float:
        """Bytes of a layer that are not the products' own: norms, residuals, rotation, activation, dropout."""
        work, shape, tensor = self._work, self._work.shape, self._work.layout.tensor
        whole = 1 / tensor if work.layout.sequence else 1.0
        # Two norms (read, write; backward reads two, writes one) and two residual additions.
        along_hidden = (12.0 if backward else 10.0) * shape.hidden_size * whole
        heads = (shape.hidden_size + shape.keys_size) / tensor
        along_heads = (4.0 if shape.rotary else 0.0) + ((6.0 if backward else 4.0) if shape.qk_norm else 0.0)
        ffn = shape.ffn_hidden_size / tensor
        activation = (5.0 if backward else 3.0) if shape.gated else (3.0 if backward else 2.0)
        dropout = 3.0 * shape.hidden_size * whole if shape.dropout else 0.0
        elements = along_hidden + along_heads * heads + activation * ffn + dropout
        return self._assumed.elementwise_factor * work.positions * elements * work.width

    def _memory(self, num_bytes: float) -> float:
        return num_bytes / self._bandwidth
