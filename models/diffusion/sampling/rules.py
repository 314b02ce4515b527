"""Which hidden positions are revealed at a step. A rule says whose logits it wants, then what of that is revealed.

A region is revealed while time runs from 1 down to 0 in equal steps; a rule's schedule says how much is hidden at a
time.

Shape legend: B sequences, S positions.
"""

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor

from triptych.models.diffusion.schedules import Cosine, Linear, NoiseSchedule


@dataclass(kw_only=True, slots=True, frozen=True)
class Moment:
    """One step of one modality.

    hidden_BS: bool, positions that may be revealed now. num_start_B: int64, how many there were when the region (a
    block, or everything) was begun. time, next_time: 1 >= time > next_time >= 0. draws_BS: float64 in (0, 1), this
    step's own.
    """

    hidden_BS: Tensor
    num_start_B: Tensor
    time: float
    next_time: float
    draws_BS: Tensor


class Rule(Protocol):
    """Both methods return bool [B, S]; whatever is hidden must be revealed when next_time is 0."""

    def wanted(self, moment: Moment) -> Tensor:
        """Positions whose tokens must be drawn to decide; none is revealed outside them."""
        ...

    def revealed(self, moment: Moment, wanted_BS: Tensor, log_confidences_BS: Tensor) -> Tensor:
        """Of the wanted positions, those to reveal. log_confidences_BS: float64, of the drawn token, -inf elsewhere."""
        ...


def _level(schedule: NoiseSchedule, time: float) -> float:
    return float(schedule.level(torch.tensor(time, dtype=torch.float64)))


@dataclass(kw_only=True, slots=True, frozen=True)
class Ancestral:
    """The reverse of the forward process: a hidden token stays hidden with probability m(s)/m(t), by its own draw.

    MDLM (arXiv 2406.07524). The choice does not look at the model, so only tokens to be revealed are drawn.
    Samples follow the model as the number of steps grows; tokens revealed in one step are independent given the rest.
    """

    schedule: NoiseSchedule = field(default_factory=Linear)
    kind: Literal["ancestral"] = "ancestral"

    def wanted(self, moment: Moment) -> Tensor:
        stays = _level(self.schedule, moment.next_time) / _level(self.schedule, moment.time)
        return moment.hidden_BS & (moment.draws_BS >= stays)

    def revealed(self, moment: Moment, wanted_BS: Tensor, log_confidences_BS: Tensor) -> Tensor:
        return wanted_BS


def reveal_counts(schedule: NoiseSchedule, moment: Moment) -> Tensor:
    """int64 [B]: how many to reveal so that floor(n m(s)) stay hidden: none left over at the end, whatever n is.

    For the linear schedule that is n/num_steps each time.
    """
    tolerance = 1e-9  # so that rounding does not turn 3.0 into 2
    left_B = torch.floor(moment.num_start_B * _level(schedule, moment.next_time) + tolerance).long()
    return (moment.hidden_BS.sum(1) - left_B).clamp(min=0)


def top_positions(scores_BS: Tensor, counts_B: Tensor) -> Tensor:
    """bool [B, S]: the counts_B[b] highest scores of each row; of equal ones the first."""
    order_BS = scores_BS.argsort(dim=1, descending=True, stable=True)
    ranks_BS = torch.empty_like(order_BS).scatter(
        1, order_BS, torch.arange(scores_BS.shape[1], device=order_BS.device).expand_as(order_BS)
    )
    return ranks_BS < counts_B[:, None]


@dataclass(kw_only=True, slots=True, frozen=True)
class Confidence:
    """Reveals the surest tokens of all that were drawn; the others are forgotten and drawn again at the next step.

    LLaDA's low-confidence remasking (arXiv 2502.09992).
    """

    schedule: NoiseSchedule = field(default_factory=Linear)
    kind: Literal["confidence"] = "confidence"

    def wanted(self, moment: Moment) -> Tensor:
        return moment.hidden_BS & (reveal_counts(self.schedule, moment) > 0)[:, None]

    def revealed(self, moment: Moment, wanted_BS: Tensor, log_confidences_BS: Tensor) -> Tensor:
        return wanted_BS & top_positions(log_confidences_BS, reveal_counts(self.schedule, moment))


@dataclass(kw_only=True, slots=True, frozen=True)
class MaskGit:
    """As `Confidence`, with Gumbel noise on the log-confidence that fades out: choice_temperature * next_time * noise.

    MaskGIT (arXiv 2202.04200, section 3.2, and its public sampler). At choice_temperature 0 it is `Confidence`; a
    large one reveals in random order. ValueError if it is negative.
    """

    schedule: NoiseSchedule = field(default_factory=Cosine)
    choice_temperature: float = 4.5
    kind: Literal["maskgit"] = "maskgit"

    def __post_init__(self) -> None:
        if not 0 <= self.choice_temperature < math.inf:
            raise ValueError(f"choice_temperature {self.choice_temperature} is not 0 or more; 4.5 is usual")

    def wanted(self, moment: Moment) -> Tensor:
        return moment.hidden_BS & (reveal_counts(self.schedule, moment) > 0)[:, None]

    def revealed(self, moment: Moment, wanted_BS: Tensor, log_confidences_BS: Tensor) -> Tensor:
        gumbel_BS = -torch.log(-torch.log(moment.draws_BS))
        scores_BS = log_confidences_BS + self.choice_temperature * moment.next_time * gumbel_BS
        return wanted_BS & top_positions(scores_BS, reveal_counts(self.schedule, moment))


RevealRule = Annotated[Ancestral | Confidence | MaskGit, Field(discriminator="kind")]
"""Any rule; in a configuration a mapping whose "kind" names it."""
