"""The one vocabulary: disjoint id ranges for specials, text, image and audio.

    0 .. 15                      specials: mask, pad, task tokens, boundary tokens; never predicted
    then, per modality           END, code 0, code 1, ...

END closes a region whose length the model must produce (captions, speech) and separates packed documents. Sources: task
and boundary tokens, disjoint ranges and one [MASK] follow the tri-modal paper (arXiv 2602.21472); the layout of the ids
is our choice.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from torch import Tensor  # a process that scans raw data starts without it, in a seventh of the time

Modality = Literal["text", "image", "audio"]
MODALITIES: tuple[Modality, ...] = get_args(Modality)
Task = Literal["text", "t2i", "i2t", "t2s", "s2t"]
TASKS: tuple[Task, ...] = get_args(Task)

SPECIALS = ("mask", "pad", *(f"task_{task}" for task in TASKS), *(f"begin_{modality}" for modality in MODALITIES))
NUM_SPECIALS = 16  # room for six more before any id moves


@dataclass(kw_only=True, slots=True, frozen=True)
class Vocabulary:
    """Sizes of the three code books, and the id arithmetic that follows from them.

    `text`, `image` and `audio` are numbers of codes, END not counted.
    """

    text: int
    image: int
    audio: int

    @property
    def size(self) -> int:
        """Number of ids in all, specials included."""
        return NUM_SPECIALS + sum(self.num_outputs(modality) for modality in MODALITIES)

    @property
    def mask(self) -> int:
        return self.special("mask")

    def special(self, name: str) -> int:
        """Id of a special token; `name` is one of SPECIALS."""
        return SPECIALS.index(name)

    def num_outputs(self, modality: Modality) -> int:
        """How many ids a position of this modality can take: END and the codes."""
        return 1 + getattr(self, modality)

    def start(self, modality: Modality) -> int:
        """First id of the modality's range, which is its END."""
        before = MODALITIES[: MODALITIES.index(modality)]
        return NUM_SPECIALS + sum(self.num_outputs(other) for other in before)

    def end(self, modality: Modality) -> int:
        """Id of the modality's END token."""
        return self.start(modality)

    def codes_start(self, modality: Modality) -> int:
        """Id of code 0 of the modality."""
        return self.start(modality) + 1

    def modality_ids(self, tokens: "Tensor") -> "Tensor":
        """int64, same shape as `tokens`: index into MODALITIES of each clean id, -1 for specials."""
        begun = (tokens >= self.start(MODALITIES[0])).long()
        for modality in MODALITIES[1:]:
            begun += tokens >= self.start(modality)
        return begun - 1
