"""The values of the last healthy steps, and how far out of line a new one is."""

import math
from collections import deque
from collections.abc import Iterable
from statistics import median

NORMAL = 1.4826
"""Standard deviation of a normal distribution in units of its median absolute deviation."""

LEAST_SHARE = 0.01
"""Of the median: the smallest deviation that counts as one, for a quantity that hardly moves. Our choice."""


class Window:
    """At most `size` values; judges once a quarter of them are there."""

    def __init__(self, size: int, values: Iterable[float] = ()) -> None:
        self._values: deque[float] = deque(values, maxlen=size)
        self._least = size // 4

    def add(self, value: float) -> None:
        """Take a value in; what is not finite is left out."""
        if math.isfinite(value):
            self._values.append(value)

    def deviations(self, value: float) -> float:
        """How many robust standard deviations the value is above the median; 0 as long as there are few values.

        Median and median absolute deviation bear with half of the values being wild (Huber, Robust Statistics, 1981,
        section 5.1), where a single spike moves mean and standard deviation.
        """
        if len(self._values) < self._least:
            return 0.0
        middle = median(self._values)
        spread = NORMAL * median(abs(each - middle) for each in self._values)
        return (value - middle) / max(spread, LEAST_SHARE * abs(middle), 1e-30)

    @property
    def values(self) -> list[float]:
        return list(self._values)
