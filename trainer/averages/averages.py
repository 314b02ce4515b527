"""All averages of a run."""

from collections.abc import Sequence
from contextlib import AbstractContextManager

from triptych.trainer.averages.average import Average
from triptych.trainer.averages.config import AverageConfig, require_distinct
from triptych.trainer.state import Carried, TrainState


class ModelAverages:
    """Averages that follow the weights: called after every step. Every rank has one.

    Memory: 4 bytes per weight that the rank holds (a data-parallel share under ZeRO, else all of them) and average.
    """

    def __init__(self, configs: Sequence[AverageConfig], state: TrainState) -> None:
        """Averages of the weights of the state's engine. ValueError for two of one name."""
        require_distinct(configs)
        self._state = state
        self._averages = {config.name: Average(config, state) for config in configs}
        self._parts = {config.name: config.part for config in configs}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._averages)

    @property
    def carried(self) -> dict[str, Carried]:
        """Each average under its part's name, for `TrainState.carried`."""
        return {self._parts[name]: average for name, average in self._averages.items()}

    def __call__(self, state: TrainState) -> None:
        assert state is self._state
        for average in self._averages.values():
            average.update()

    def swapped(self, name: str) -> AbstractContextManager[None]:
        """`Average.swapped` of the average of that name. ValueError if there is none."""
        if name not in self._averages:
            known = ", ".join(self._averages) or "none"
            raise ValueError(f"this run has no average {name} (it has: {known}); name one of them, or add it")
        return self._averages[name].swapped()
