"""What a batch's summed loss is divided by: a sequence counts the same in whatever batch it comes."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from triptych.trainer.checkpoint.shards import State


class LossDivisor:
    """A batch's number of sequences times the mean weight of a sequence, over all that the run has seen, the batch
    among them.

    With the batch's own weight in its place, as is usual, a token would count for more in a batch that happens to have
    few: another objective for every size of batch, and so another curve. Both are one where sequences weigh the same.
    Sums stay on the device: nobody waits for them. `Carried` by a run.
    """

    def __init__(self, device: torch.device) -> None:
        self._weight = torch.zeros((), dtype=torch.float64, device=device)
        self._sequences = 0

    def __call__(self, weight: Tensor, sequences: int) -> Tensor:
        """0-d float64, for a batch of `sequences` that weigh `weight` (0-d), both over all ranks; takes them in."""
        self._weight += weight
        self._sequences += sequences
        return self._weight / self._sequences * sequences

    def held(self) -> State:
        """No tensors that are sharded."""
        return {}

    def document(self) -> dict[str, Any]:
        """Both sums."""
        return {"weight": float(self._weight), "sequences": self._sequences}

    def restore(self, document: Mapping[str, Any] | None) -> None:
        """Go on from a checkpoint's sums; from none, anew."""
        if document is not None:
            self._weight.fill_(document["weight"])
            self._sequences = document["sequences"]
