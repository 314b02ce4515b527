"""The drills' judgement finds what it is there to find: another curve, too much lost, a fault that is not named."""

import pytest
from faults import Naming
from judgement import Outcome, curve_fault, loss_fault, naming_fault
from plans import SHARES, planned

BATCH, EVERY = 100, 400
KILLED = {
    "kind": "killed",
    "rank": 1,
    "step": 6,
    "sample": "",
    "headline": "Rank 1 (host) was killed, or its node was lost after step 6",
    "cause": "no sign of life for 8 s",
    "findings": [{"grade": "odd", "text": "checkpoint tokens-400 is damaged"}],
}
NAMING = Naming(kinds=("killed",), rank=1, step=(6, 7), says=("tokens-400",))


def step(number, **changes):
    times = {"seconds": 0.1 * number, "busy_seconds": 0.05, "data_wait_fraction": 0.5}
    record = {"step": number, "tokens": BATCH * number, "batch_tokens": BATCH, "is_updated": True, **times}
    return {**record, "gradient_norm": 1.0 / number, "metrics": {"loss": 5.0 - number / 7}, **changes}


def run(*numbers):
    return [step(number) for number in numbers]


WHOLE = run(*range(1, 11))


def struck(*, after, resumed_from, **more):
    """A run that logged so many steps, and began again from some tokens."""
    records = run(*range(1, after + 1), *range(resumed_from // BATCH + 1, 11))
    return Outcome(records=records, num_before=after, resumed_from=resumed_from, **more)


def test_a_run_that_repeats_its_steps_has_the_same_curve():
    assert curve_fault(struck(after=6, resumed_from=400).records, WHOLE) == ""


@pytest.mark.parametrize(
    ("records", "says"),
    [
        (WHOLE[:-1], "steps [10] are missing"),
        ([*WHOLE, step(11)], "steps [11] are missing or too many"),
        ([*WHOLE, step(4, gradient_norm=0.25 + 1e-16 * 4)], "gradient_norm of step 4"),
        ([*WHOLE[:-1], step(10, metrics={"loss": 3.5})], "metrics of step 10"),
        ([*WHOLE[:-1], step(10, is_updated=False)], "step 10 was left out"),
        ([*WHOLE, step(5, tokens=501)], "tokens of step 5"),
    ],
    ids=["too short", "too long", "one bit", "another loss", "a step left out", "another place"],
)
def test_another_curve_is_found(records, says):
    assert curve_fault(records, WHOLE).startswith(says)


def test_of_a_skipped_step_that_it_was_skipped_is_compared_and_not_its_loss():
    records = [*WHOLE[:3], step(4, metrics={"loss": float("nan")}, is_updated=False), *WHOLE[4:]]
    assert curve_fault(records, WHOLE, skipped=(4,)) == ""
    assert curve_fault(WHOLE, WHOLE, skipped=(4,)) == "step 4 was updated"


@pytest.mark.parametrize(
    ("outcome", "options", "says"),
    [
        (struck(after=6, resumed_from=400), {}, ""),
        (struck(after=9, resumed_from=300), {}, "600 tokens lost, an interval is 400"),
        (struck(after=9, resumed_from=400, hit=800), {}, ""),
        (struck(after=9, resumed_from=0, hit=800), {}, "800 tokens lost, an interval is 400"),
        (struck(after=6, resumed_from=500), {"loses_nothing": True}, "100 tokens lost by a stop"),
        (struck(after=6, resumed_from=600), {"loses_nothing": True}, ""),
    ],
    ids=["within an interval", "more", "damaged", "damaged, and one more", "a stop that loses", "a stop"],
)
def test_how_far_a_run_may_be_thrown_back(outcome, options, says):
    found = loss_fault(outcome, EVERY, **options)
    assert found.startswith(says) and bool(found) == bool(says)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, ""),
        ({"kind": "finished"}, "kind is finished, not killed"),
        ({"rank": 0}, "rank is 0, not 1"),
        ({"rank": None}, "rank is None, not 1"),
        ({"step": 5}, "step is 5, not 6..7"),
        ({"findings": []}, "does not say ['tokens-400']"),
    ],
    ids=["named", "kind", "rank", "no rank", "step", "words"],
)
def test_a_fault_that_is_not_named_is_found(changes, says):
    found = naming_fault({**KILLED, **changes}, "", NAMING)
    assert found.startswith(says) and bool(found) == bool(says)


def test_a_postmortem_that_gives_nothing_has_named_nothing():
    assert naming_fault(None, "triptych: error: it has no space", NAMING).startswith("no verdict")


def test_where_nothing_was_begun_that_is_what_is_said():
    assert naming_fault(None, "run holds no run (no run.yaml)", Naming(kinds=(), is_refused=True)) == ""


def test_a_hundred_drills_hold_every_kind_in_its_share_and_are_the_same_every_time():
    drills = planned(100, 7)
    assert len(drills) == sum(share for share, _ in SHARES.values()) == 100
    assert [repr(drill) for drill in drills] == [repr(drill) for drill in planned(100, 7)]
