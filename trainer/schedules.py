"""Learning-rate schedules over tokens, the run's only clock."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(kw_only=True, slots=True, frozen=True)
class LearningRateSchedule:
    """Linear warmup over `warmup_tokens`, then decay from 1 to `final_fraction` at `total_tokens`, constant afterwards.

    The paper decays by a cosine after a warmup of 1,000 steps capped at a quarter of the run (arXiv 2602.21472, batch-size study).
    """

    kind: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_tokens: int
    total_tokens: int
    final_fraction: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.warmup_tokens < self.total_tokens:
            raise ValueError(
                f"warmup_tokens {self.warmup_tokens} is not below total_tokens {self.total_tokens}; lower warmup_tokens or raise the other"
            )

    def factor(self, tokens: int) -> float:
        """Multiple of the peak learning rate once `tokens` tokens have been seen, in 0..1."""
        if tokens < self.warmup_tokens:
            return tokens / self.warmup_tokens
        progress = min(1.0, (tokens - self.warmup_tokens) / (self.total_tokens - self.warmup_tokens))
        shape = {
            "cosine": 0.5 * (1.0 + math.cos(math.pi * progress)),
            "linear": 1.0 - progress,
            "constant": 1.0,
        }[self.kind]
        return self.final_fraction + (1.0 - self.final_fraction) * shape
