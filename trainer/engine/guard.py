"""The last moment before an optimizer writes: the gradient's norm is known, and the update may still be left out."""

from collections.abc import Callable

import torch

Permit = Callable[[float], bool]
"""Given the gradient's norm before clipping, not-a-number or infinite where it is not finite: whether the update may be
made. Called once a step, on every rank, before anything is written.
"""


class UpdateGuard:
    """Stands between DeepSpeed and torch's optimizer, whose `step` it takes the place of.

    DeepSpeed knows the norm only within its own step, and goes on to the update at once. What it does besides is
    harmless without one: clipping changes gradients, which are dropped; the fp32 weights are copied to where they were
    copied from. Under ZeRO it asks for an update group by group, after the norm of all is known; in bf16 it may find
    the norm to be no number, and then asks for none.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._update = optimizer.step
        self._ask: Callable[[], bool] | None = None
        self._answer: bool | None = None
        optimizer.step = self._step  # type: ignore[method-assign]

    def run(self, step: Callable[[], None], ask: Callable[[], bool]) -> bool:
        """Run DeepSpeed's step; `ask` is called once. Returns whether the update was made."""
        self._ask, self._answer = ask, None
        try:
            step()
        finally:
            self._ask = None
        if self._answer is None:
            may_update = ask()
            assert not may_update, "DeepSpeed has left out an update that was to be made"
            return False
        return self._answer

    def _step(self, closure: None = None) -> None:
        assert self._ask is not None, "the optimizer steps in `run` alone"
        if self._answer is None:
            self._answer = self._ask()
        if self._answer:
            self._update()
