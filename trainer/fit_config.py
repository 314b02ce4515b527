"""What a run says about its training, whatever it trains."""

from dataclasses import dataclass, field

from triptych.models.trimodal.execution import Recompute
from triptych.trainer.averages.config import AverageConfig, require_distinct
from triptych.trainer.checkpoint.config import CheckpointConfig
from triptych.trainer.engine.config import EngineConfig
from triptych.trainer.health.config import HealthConfig
from triptych.trainer.loader.config import LoaderConfig
from triptych.trainer.optimizer import AdamWConfig
from triptych.trainer.parallel.layout import ParallelLayout
from triptych.trainer.parallel.watch.ring import WatchConfig
from triptych.trainer.scaling.config import NoiseScaleConfig, ScalingConfig
from triptych.trainer.scaling.physical import PhysicalBatch
from triptych.trainer.schedules import LearningRateSchedule


@dataclass(kw_only=True, slots=True, frozen=True)
class FitConfig:
    """Amount, batch, optimizer and engine of one training.

    total_tokens: non-padding positions over all ranks. logical_batch: sequences per optimizer step at which the
    optimizer's values are stated; physical_batch: those that a step really takes, over all ranks; scaling: how the
    values follow. micro_batch_per_dp_rank: sequences in memory at once on one rank; the rest of a batch is accumulated.

    parallel: how the model is split over processes. recompute: activations that are made again in the backward pass
    rather than kept. loader: how batches are made ready. noise_scale: how often the gradient's noise is measured; None
    is never. averages: of the weights, any number. health: what is done about steps that are not as they should be.
    watch: of the processes. ValueError for settings that do not go together.
    """

    seed: int
    total_tokens: int
    logical_batch: int
    micro_batch_per_dp_rank: int
    optimizer: AdamWConfig
    learning_rate: LearningRateSchedule
    physical_batch: PhysicalBatch = "logical"
    scaling: ScalingConfig = field(default_factory=ScalingConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    parallel: ParallelLayout = field(default_factory=ParallelLayout)
    recompute: Recompute = "none"
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    noise_scale: NoiseScaleConfig | None = None
    averages: tuple[AverageConfig, ...] = ()
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    health: HealthConfig = field(default_factory=HealthConfig)
    watch: WatchConfig = field(default_factory=WatchConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.learning_rate.warmup_tokens < self.total_tokens:
            raise ValueError(
                f"learning_rate.warmup_tokens {self.learning_rate.warmup_tokens} is not below total_tokens "
                f"{self.total_tokens}; lower the one or raise the other"
            )
        if min(self.logical_batch, self.micro_batch_per_dp_rank) < 1:
            raise ValueError("logical_batch and micro_batch_per_dp_rank must be 1 or more; raise them")
        require_distinct(self.averages)
        if self.health.rolls_back and not self.checkpoint.every_tokens:
            raise ValueError(
                "fit.health goes back to checkpoints (roll_back), and fit.checkpoint.every_tokens=0 writes none on the "
                "way; set it, or choose skip or stop"
            )
        if isinstance(self.physical_batch, int) and self.physical_batch < 1:
            raise ValueError(f"physical_batch is {self.physical_batch}; set it to 1 or more")
        if self.noise_scale is not None and self.engine.zero_stage == 2:
            raise ValueError(
                "engine.zero_stage=2 partitions gradients before their noise can be measured; set engine.zero_stage=1, "
                "or noise_scale=null"
            )
        if self.physical_batch == "auto" and self.noise_scale is None:
            raise ValueError(
                "physical_batch=auto goes by the gradient's noise; set noise_scale={every_tokens: .., "
                "half_life_tokens: ..}, or give a number"
            )
