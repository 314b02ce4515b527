"""How a run is split over processes."""

from dataclasses import dataclass


@dataclass(kw_only=True, slots=True, frozen=True)
class ParallelLayout:
    """Ranks per tensor-parallel group, stages of the pipeline, and model chunks per stage (interleaved schedule).

    What of the world is left is data parallel. sequence: keep the activations between tensor-parallel regions split
    along the sequence (Korthikanti et al. 2022, arXiv 2205.05198, section 4.2.2); needs tensor > 1. stage_layers:
    layers of each chunk in the order of the model, pipeline * virtual numbers; empty balances them.
    """

    tensor: int = 1
    pipeline: int = 1
    virtual: int = 1
    sequence: bool = False
    stage_layers: tuple[int, ...] = ()

    @property
    def num_chunks(self) -> int:
        """Pieces that the layers are cut into."""
        return self.pipeline * self.virtual

    @property
    def model_ranks(self) -> int:
        """Processes that hold one copy of the model."""
        return self.tensor * self.pipeline
