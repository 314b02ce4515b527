"""Three processes that agree, and each way in which one of them may not: all raise one text that names it."""

from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from triptych.trainer.parallel.agreement.agreement import Agreement, require_same
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement
from triptych.trainer.parallel.watch.obituary import Diverged
from triptych.trainer.parallel.watch.ring import WatchConfig
from triptych.trainer.seams import LossTerms

ODD = 1


class Losses:
    """An objective whose loss is what it is given."""

    def prepare(self, batch, stream):
        return batch, None

    def loss(self, outputs, targets):
        return LossTerms(sum=outputs, weight=torch.ones(()), metrics={})


def outcome(groups, rank, case):
    """What a rank says after one step in which rank ODD is odd in `case`."""
    odd = rank == ODD
    agreement = Agreement(WatchConfig(parameters_every_steps=2), groups)
    objective = agreement.listening(Losses())
    objective.loss(torch.tensor(float("nan") if odd and case == "local loss" else 1.0), None)
    weights = torch.arange(6.0).view(2, 3)
    if odd and case in ("parameter", "parameter between comparisons"):
        weights[1, 2] += 1e-6
    named = [("norm", torch.ones(3)), ("linear", weights)]
    spoiled = float("nan") if case == "local loss" else 2.5
    state = SimpleNamespace(
        step=3 if case == "parameter between comparisons" else 4,
        engine=SimpleNamespace(named_parameters=lambda: iter(named)),
    )
    try:
        agreed = agreement.compare(
            step=state.step,
            tokens=801 if odd and case == "tokens" else 800,
            cursor={"text": 6 if odd and case == "cursor" else 5},
            loss=None if case == "loss on some" and rank == 2 else spoiled,
            gradient_norm=float("inf") if case == "gradient norm" else 1.0,
            busy_seconds=float(rank),
        )
        agreement.check_parameters(state)
        require_same({"the commit": "b" if odd and case == "commit" else "a"}, groups)
    except (Diverged, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    assert agreed.busy_seconds == [0.0, 1.0, 2.0]
    return "fine" if agreed.not_finite is None else f"not finite: {agreed.not_finite}"


CASES = {
    "nothing": "fine",
    "loss on some": "fine",
    "parameter between comparisons": "fine",
    "tokens": "Diverged: ranks disagree in step 4: tokens is 801 on rank 1 (",
    "cursor": "Diverged: ranks disagree in step 4: cursor is ",
    "local loss": "not finite: the loss of rank 1 (",
    "gradient norm": "not finite: gradient_norm is not finite on every rank in step 4",
    "parameter": "Diverged: replicas differ after step 4: the checksum of linear is ",
    "commit": "ValueError: ranks do not run the same: the commit is b on rank 1 (",
}


def _all_cases():
    rank = dist.get_rank()
    with process_groups(Placement(rank=rank, world_size=3)) as groups:
        return {case: outcome(groups, rank, case) for case in CASES}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    from gloo_processes import Processes

    return Processes(tmp_path_factory.mktemp("agreement"))(_all_cases, 3)


@pytest.mark.parametrize("case", CASES)
def test_the_verdict(outcomes, case):
    (text,) = {each[case] for each in outcomes}
    assert text.startswith(CASES[case])


@pytest.mark.parametrize(
    "case", [case for case, text in CASES.items() if " on every rank" not in text and text != "fine"]
)
def test_the_odd_rank_is_named(outcomes, case):
    assert "rank 1 (" in outcomes[0][case]
