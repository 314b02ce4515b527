"""Time per million coins against torch's own generator: `python -m triptych.kernels.philox.benchmark`."""

import statistics
import time
from collections.abc import Callable

import torch

from triptych.kernels.philox.bernoulli import GROUP, packed_bernoulli, unpack
from triptych.kernels.philox.stream import Purpose, Stream

NUM_POSITIONS, NUM_ROWS, NUM_CHANNELS = 2048, 4, 1024
NUM_REPEATS = 15


def main() -> None:
    """Prints the device, the shape, the median of either in milliseconds per million elements, and their ratio."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    on = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    samples_B3 = torch.arange(NUM_ROWS, device=device).view(-1, 1).expand(-1, 3)
    words = Stream(seed=1).row_words(Purpose.DROPOUT, samples_B3, torch.zeros_like(samples_B3[:, 0]))
    groups = range(NUM_CHANNELS // GROUP)
    coins_BPC = torch.empty(NUM_ROWS, NUM_POSITIONS, NUM_CHANNELS, dtype=torch.bool, device=device)
    ours = _milliseconds(lambda: unpack(packed_bernoulli(words, range(NUM_POSITIONS), groups, 6554)), device)
    theirs = _milliseconds(lambda: coins_BPC.bernoulli_(0.1), device)
    millions = coins_BPC.numel() / 1e6
    print(f"torch {torch.__version__}, {on}, B x P x C = {NUM_ROWS} x {NUM_POSITIONS} x {NUM_CHANNELS}")
    print(f"ms per million: philox {ours / millions:.3f}, torch {theirs / millions:.3f}, ratio {ours / theirs:.2f}")


def _milliseconds(work: Callable[[], object], device: torch.device) -> float:
    """Median of a call's time, after one that warms up."""
    taken = []
    for _ in range(NUM_REPEATS + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(1e3 * (time.perf_counter() - start))
    return statistics.median(taken[1:])


if __name__ == "__main__":
    main()
