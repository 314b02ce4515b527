"""Steps made bad through the loop's own seams: an objective that gives not-a-number, weights that are poisoned."""

from dataclasses import dataclass
from typing import Literal


@dataclass(kw_only=True, slots=True, frozen=True)
class Trouble:
    """What is wrong, in which step, and on which rank (None: all). objective: the loss is not a number, once ("once":
    a file keeps that it has been) or whenever the step is made ("always"). weights: one weight becomes not a number
    before the step, once. left out: the step is judged to be skipped though nothing is wrong: what a run with a bad
    batch is compared with. lost: these samples of (source, number) count as unread: what a damaged shard is compared
    with.
    """

    kind: Literal["objective once", "objective always", "weights", "left out", "lost"]
    step: int = 0
    rank: int | None = None
    samples: tuple[tuple[str, int], ...] = ()


def make_trouble(trouble, rank, folder):
    """Put it into this process."""
    if trouble.rank is not None and rank != trouble.rank:
        return
    if trouble.kind == "lost":
        _lose(trouble.samples)
        return
    once = folder.parent / f"troubled{rank}"
    state = _watched_state()
    if trouble.kind == "left out":
        _leave_out(trouble.step)
    else:
        _poison(trouble, state, once)


def _watched_state():
    """The last train state that a step was made of: steps done so far, and the engine."""
    import triptych.trainer.fit as fit

    found = {}
    inner = fit.train_step

    def train_step(state, config, **options):
        found["state"] = state
        return inner(state, config, **options)

    fit.train_step = train_step
    return found


def _poison(trouble, found, once):
    import torch

    from triptych.configs.trimodal import TrimodalRun
    from triptych.trainer.seams import LossTerms

    is_single = trouble.kind != "objective always"

    def is_due():
        due = found["state"].step + 1 == trouble.step and not (is_single and once.exists())
        if due and is_single:
            once.touch()
        return due

    class Poisoned:
        def __init__(self, objective):
            self._objective = objective

        def prepare(self, batch, stream):
            if trouble.kind == "weights" and is_due():
                with torch.no_grad():
                    next(iter(found["state"].engine.module.parameters())).view(-1)[0] = torch.nan
            return self._objective.prepare(batch, stream)

        def loss(self, outputs, targets):
            terms = self._objective.loss(outputs, targets)
            if trouble.kind == "weights" or not is_due():
                return terms
            return LossTerms(sum=terms.sum * torch.nan, weight=terms.weight, metrics=terms.metrics)

    build = TrimodalRun.build_objective
    TrimodalRun.build_objective = lambda run, **options: Poisoned(build(run, **options))


def _leave_out(step):
    from triptych.trainer.health.policy import HealthPolicy
    from triptych.trainer.health.policy import Trouble as Judged

    inner = HealthPolicy.judge

    def judge(policy, **numbers):
        if numbers["step"] != step:
            return inner(policy, **numbers)
        return Judged(kind="not_finite", remedy="skip", text="left out for comparison")

    HealthPolicy.judge = judge


def _lose(samples):
    import torch

    from triptych.data_pipelines.stream.windows import source_id
    from triptych.trainer.loader.stream_data import StreamData

    bad = {(source_id(source), number) for source, number in samples}
    inner = StreamData.batch

    def batch(data, *given):
        rows, after = inner(data, *given)
        lost_BD = rows.lost_BD.clone()
        for at, document in (rows.lengths_BD > 0).nonzero().tolist():
            source, number, _ = rows.samples_BD3[at, document].tolist()
            lost_BD[at, document] |= (source, number) in bad
        return (rows.without(lost_BD) if bool(torch.any(lost_BD)) else rows), after

    StreamData.batch = batch
