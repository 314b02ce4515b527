"""Learning-rate schedules over tokens, the run's only clock."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(kw_only=True, slots=True, frozen=True)
class LearningRateSchedule:
    """Linear warmup over `warmup_tokens`, then decay from 1 to `final_fraction` at the end of the run.

    The paper decays by a cosine after a warmup of 1,000 steps capped at a quarter of the run (arXiv 2602.21472,
    batch-size study).
    """

    kind: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_tokens: int
    final_fraction: float = 0.0

    def factor(self, tokens: float, total_tokens: int) -> float:
        """Multiple of the peak learning rate once `tokens` of `total_tokens` have been seen, in 0..1; constant after
        the end.
        """
        if tokens < self.warmup_tokens:
            return tokens / self.warmup_tokens
        progress = min(1.0, (tokens - self.warmup_tokens) / (total_tokens - self.warmup_tokens))
        shape = {
            "cosine": 0.5 * (1.0 + math.cos(math.pi * progress)),
            "linear": 1.0 - progress,
            "constant": 1.0,
        }[self.kind]
        return self.final_fraction + (1.0 - self.final_fraction) * shape
