"""How long the device was at something, without waiting for it."""

import time

import torch


class Stopwatch:
    """Between `start` and `stop`: on a GPU between two marks in its queue, and `seconds` waits for the second."""

    def __init__(self, device: torch.device) -> None:
        self._marks = None
        if device.type == "cuda":
            self._marks = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        self._started = self._stopped = 0.0

    def start(self) -> None:
        """From here."""
        self._started = time.perf_counter()
        if self._marks is not None:
            self._marks[0].record()

    def stop(self) -> None:
        """To here."""
        self._stopped = time.perf_counter()
        if self._marks is not None:
            self._marks[1].record()

    @property
    def seconds(self) -> float:
        """Of the last measurement."""
        if self._marks is None:
            return self._stopped - self._started
        self._marks[1].synchronize()
        return self._marks[0].elapsed_time(self._marks[1]) / 1000
