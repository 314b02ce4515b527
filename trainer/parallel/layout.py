"""How a run is split over processes."""

from dataclasses import dataclass


@dataclass(kw_only=True, slots=True, frozen=True)
class ParallelLayout:
    """Ranks per tensor-parallel group, stages of the pipeline, and model chunks per stage (interleaved schedule).

    What of the world is left is data parallel. sequence: keep the activations between tensor-parallel regions split
    along the sequence (Korthikanti et al. 2022, arXiv 2205.05198, section 4.2.2); needs tensor > 1. stage_layers:
    layers of each chunk in the order of the model, pipeline * virtual numbers; empty balances them.

    ValueError for what no model and no number of processes could fit; `refusal.require_layout` has the rest.
    """

    tensor: int = 1
    pipeline: int = 1
    virtual: int = 1
    sequence: bool = False
    stage_layers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("tensor", "pipeline", "virtual"):
            if getattr(self, name) < 1:
                raise ValueError(f"parallel.{name} is {getattr(self, name)}; set it to 1 or more")
        if self.virtual > 1 and self.pipeline == 1:
            raise ValueError(
                f"parallel.virtual={self.virtual} has no pipeline to interleave; set virtual=1 or pipeline=2 or more"
            )
        if self.sequence and self.tensor == 1:
            raise ValueError(
                "parallel.sequence splits what tensor-parallel ranks share, and tensor is 1; set sequence=false or "
                "tensor to 2 or more"
            )
        if self.stage_layers and (len(self.stage_layers) != self.num_chunks or min(self.stage_layers) < 1):
            raise ValueError(
                f"parallel.stage_layers={list(self.stage_layers)} are not {self.num_chunks} numbers of 1 or more, one "
                "per chunk of the model (pipeline * virtual); give those, or [] to balance them"
            )

    @property
    def num_chunks(self) -> int:
        """Pieces that the layers are cut into."""
        return self.pipeline * self.virtual

    @property
    def model_ranks(self) -> int:
        """Processes that hold one copy of the model."""
        return self.tensor * self.pipeline
