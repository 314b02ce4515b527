"""One judgement of each step, the same on every rank, written down where it is needed later."""

from collections.abc import Callable, Mapping
from typing import Any

from triptych.trainer.health.policy import HealthPolicy, Trouble
from triptych.trainer.health.samples import sample_ids
from triptych.trainer.parallel.agreement.agreement import Agreement
from triptych.trainer.parallel.watch.stragglers import Stragglers
from triptych.trainer.step import Standing

SPIKE, SKIPPED, ROLLED_BACK, UNHEALTHY, STRAGGLER = "spike", "skipped", "rolled_back", "unhealthy", "straggler"
"""Names of events, one for each remedy, and of a slow rank."""

_EVENTS = {"note": SPIKE, "skip": SKIPPED, "roll_back": ROLLED_BACK, "stop": UNHEALTHY}


class StepJudge:
    """A `Judge` of the loop: compares the ranks, asks the policy, and notes what is found, with the samples that this
    rank had in the batch wherever the optimizer does not step.

    note: each rank's. speaks: whether this rank notes what is the same on all. trouble: of the last step.
    """

    def __init__(
        self,
        policy: HealthPolicy,
        agreement: Agreement,
        stragglers: Stragglers,
        note: Callable[[str, Mapping[str, Any]], None],
        *,
        speaks: bool,
    ) -> None:
        self._policy, self._agreement, self._stragglers = policy, agreement, stragglers
        self._note, self._speaks = note, speaks
        self.trouble: Trouble | None = None

    def __call__(self, standing: Standing) -> Trouble | None:
        """Collective. Diverged as `Agreement.compare`."""
        agreed = self._agreement.compare(
            step=standing.step,
            tokens=standing.tokens,
            cursor=standing.cursor,
            loss=standing.loss,
            gradient_norm=standing.gradient_norm,
            busy_seconds=standing.busy_seconds,
        )
        for straggler in self._stragglers.add(agreed.busy_seconds):
            if self._speaks:
                seconds = {"seconds": straggler.seconds, "median_seconds": straggler.median_seconds}
                who = self._agreement.labels[straggler.rank]
                self._note(STRAGGLER, {"rank": straggler.rank, "who": who, **seconds})
        self.trouble = self._policy.judge(
            step=standing.step,
            loss=agreed.loss,
            gradient_norm=agreed.gradient_norm,
            not_finite=agreed.not_finite,
        )
        if self.trouble is not None:
            self._write_down(self.trouble, standing)
        return self.trouble

    def _write_down(self, trouble: Trouble, standing: Standing) -> None:
        facts: dict[str, Any] = {
            "kind": trouble.kind,
            "cause": trouble.text,
            "tokens": standing.tokens,
            "loss": standing.loss,
            "gradient_norm": standing.gradient_norm,
        }
        if not trouble.takes_update:
            facts["samples"] = sample_ids(standing.rows, standing.cursor)
        self._note(_EVENTS[trouble.remedy], facts)
