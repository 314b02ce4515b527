"""What is shown of a run while it trains, besides its numbers."""

from dataclasses import dataclass
from typing import Literal


@dataclass(kw_only=True, slots=True, frozen=True)
class WatchingConfig:
    """samples_every_tokens: between two drafts of images, speech and text in TensorBoard, from the weights of the
    moment; 0 draws none. num_samples: of each task. They change nothing of the training, and cost the time they take.

    wandb: where Weights & Biases gets what TensorBoard gets: from this machine at once ("online"), or into files that
    `wandb sync` sends later ("offline"). ValueError for settings out of range.
    """

    samples_every_tokens: int = 0
    num_samples: int = 4
    wandb: Literal["off", "online", "offline"] = "off"
    wandb_project: str = "triptych"

    def __post_init__(self) -> None:
        if self.samples_every_tokens < 0:
            raise ValueError(f"watch.samples_every_tokens is {self.samples_every_tokens}; set it to 0 (none) or more")
        if self.num_samples < 1:
            raise ValueError(f"watch.num_samples is {self.num_samples}; set it to 1 or more")
        if not self.wandb_project:
            raise ValueError("watch.wandb_project is empty; name one, or set watch.wandb=off")
