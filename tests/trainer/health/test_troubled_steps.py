"""Steps that are not as they should be: left out bit for bit, gone back from, or stopped at, alike on every rank."""

import itertools
from dataclasses import replace

import pytest
import tiny_run
import torch
import torch.distributed as dist
import troubled_runs
from troubled_runs import NOT_A_NUMBER, SKIP, WORSE

from triptych.trainer.checkpoint.disk.folders import checkpoint_folders
from triptych.trainer.health.policy import Unhealthy
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.layout import ParallelLayout
from triptych.trainer.parallel.placement import Placement

BAD = {NOT_A_NUMBER: float("nan"), WORSE: 1e4}
ENGINES = [(0, "fp32"), (1, "fp32"), (2, "fp32"), (1, "bf16"), (2, "bf16")]


@pytest.fixture(scope="module")
def groups():
    with process_groups(Placement()) as opened:
        yield opened


def outcome(groups, zero, precision, log):
    """Steps that were skipped, those that moved nothing, and the bad samples that the log names."""
    seen = troubled_runs.run(groups, troubled_runs.config(zero=zero, precision=precision), BAD, log=log)
    first = len(seen.records) - len(seen.held) + 2
    unmoved = [record.step for record in seen.records if record.step >= first and seen.unmoved(record.step)]
    named = set()
    for event in troubled_runs.events(log):
        assert event["event"] == "skipped"
        named |= {(each["source"], each["sample"]) for each in event["samples"]} & BAD.keys()
    return seen.skipped, unmoved, named


@pytest.mark.parametrize(("zero", "precision"), ENGINES)
def test_a_skipped_step_moves_not_a_bit(groups, tmp_path, zero, precision):
    skipped, unmoved, named = outcome(groups, zero, precision, tmp_path / "log")
    assert len(skipped) == 2 and unmoved == skipped
    assert named == BAD.keys()


def _on_two_ranks(folder):
    rank, found = dist.get_rank(), []
    for zero, precision in [(0, "fp32"), (1, "bf16"), (2, "fp32")]:
        with process_groups(Placement(rank=rank, world_size=2, local_rank=rank)) as groups:
            found.append(outcome(groups, zero, precision, folder / f"{zero}{precision}{rank}"))
    with process_groups(Placement(rank=rank, world_size=2, local_rank=rank), ParallelLayout(tensor=2)) as groups:
        found.append(outcome(groups, 1, "fp32", folder / f"tensor{rank}"))
    return found


def test_ranks_skip_the_same_steps(run_processes, tmp_path):
    """Each rank names the samples of its own rows; those of all ranks together have the bad ones."""
    first, second = run_processes(_on_two_ranks, 2, tmp_path, timeout_seconds=600)
    for (skipped, unmoved, named), (skipped_there, unmoved_there, named_there) in zip(first, second, strict=True):
        assert skipped == skipped_there and len(skipped) == 2
        assert unmoved == unmoved_there == skipped
        assert named | named_there == BAD.keys()


@pytest.fixture(scope="module")
def reference(groups, tmp_path_factory):
    return troubled_runs.run(groups, troubled_runs.config(), BAD, log=tmp_path_factory.mktemp("reference") / "log")


@pytest.mark.parametrize("after", [-1, 1])
def test_a_resumed_run_judges_as_it_would_have(groups, reference, tmp_path, after):
    """It stops just before and just after the first step that is skipped."""
    options = {"log": tmp_path / "log", "checkpoints": tmp_path / "checkpoints"}
    stop_after = reference.skipped[0] + after
    first = troubled_runs.run(groups, troubled_runs.config(), BAD, stop_after=stop_after, **options)
    second = troubled_runs.run(groups, troubled_runs.config(), BAD, resume=True, **options)
    assert first.skipped + second.skipped == reference.skipped
    numbers = [(r.step, r.tokens, r.gradient_norm) for r in first.records + second.records if r.is_updated]
    assert numbers == [(r.step, r.tokens, r.gradient_norm) for r in reference.records if r.is_updated]
    assert all(torch.equal(*pair) for pair in zip(second.held[-1], reference.held[-1], strict=True))


def test_what_is_only_noted_changes_nothing(groups, tmp_path):
    noted = replace(SKIP, gradient_spike="note")
    seen = troubled_runs.run(groups, troubled_runs.config(health=noted), {WORSE: 1e4}, log=tmp_path / "log")
    blind = replace(noted, spike_deviations=1e30)
    unseen = troubled_runs.run(groups, troubled_runs.config(health=blind), {WORSE: 1e4}, log=tmp_path / "other")
    assert [event["event"] for event in troubled_runs.events(tmp_path / "log")] == ["spike"]
    assert all(torch.equal(*pair) for pair in zip(seen.held[-1], unseen.held[-1], strict=True))


def test_going_back_passes_over_the_data_that_led_there(groups, tmp_path):
    health = replace(SKIP, not_finite="roll_back")
    settings = troubled_runs.config(health=health, every_tokens=300)
    bad = {NOT_A_NUMBER: float("nan")}
    seen = troubled_runs.run(groups, settings, bad, log=tmp_path / "log", checkpoints=tmp_path / "checkpoints")
    (event,) = troubled_runs.events(tmp_path / "log")
    at = next(index for index, record in enumerate(seen.records) if not record.is_updated)
    back_to = seen.records[at + 1].tokens - seen.records[at + 1].batch_tokens
    assert event["event"] == "rolled_back" and event["tokens"] == seen.records[at].tokens > back_to
    assert back_to in [record.tokens for record in seen.records[:at]]
    assert seen.records[-1].tokens >= settings.total_tokens
    assert len(seen.skipped) == 1
    same_place = [record for record in seen.records if record.tokens - record.batch_tokens == back_to]
    assert same_place[0].metrics["loss"] != same_place[1].metrics["loss"]


def test_trouble_that_comes_again_and_again_ends_the_run(groups, tmp_path):
    health = replace(SKIP, not_finite="roll_back", after_rollback="repeat", max_rollbacks=2, rollback_checkpoints=2)
    settings = troubled_runs.config(health=health, every_tokens=300)
    with pytest.raises(Unhealthy, match=r"not finite.* in step \d+.* after 2 times of going back"):
        troubled_runs.run(
            groups, settings, {NOT_A_NUMBER: float("nan")}, log=tmp_path / "log", checkpoints=tmp_path / "checkpoints"
        )
    happened = [event["event"] for event in troubled_runs.events(tmp_path / "log")]
    assert happened == ["rolled_back", "rolled_back", "unhealthy"]
    first = checkpoint_folders(tmp_path / "checkpoints")[0]
    records = troubled_runs.records(tmp_path / "log")
    pairs = itertools.pairwise(records)
    begun = [after["tokens"] - after["batch_tokens"] for before, after in pairs if after["tokens"] <= before["tokens"]]
    assert begun == [int(first.name.removeprefix("tokens-"))] * 2  # not the newest, but the one before


def test_a_crash_does_not_make_a_run_forget_the_data_that_it_passes_over(groups, tmp_path):
    """It comes in the first step after going back, before any other checkpoint."""
    settings = troubled_runs.config(health=replace(SKIP, not_finite="roll_back"), every_tokens=300)
    bad = {NOT_A_NUMBER: float("nan")}
    whole = troubled_runs.run(groups, settings, bad, log=tmp_path / "log", checkpoints=tmp_path / "whole")
    back = next(index for index, record in enumerate(whole.records) if not record.is_updated) + 1
    options = {"log": tmp_path / "other", "checkpoints": tmp_path / "checkpoints"}
    with pytest.raises(troubled_runs.Crash):
        troubled_runs.run(groups, settings, bad, crash_after=back + 1, **options)
    resumed = troubled_runs.run(groups, settings, bad, resume=True, **options)
    numbers = [(record.step, record.tokens, record.metrics["loss"]) for record in resumed.records]
    assert numbers == [(record.step, record.tokens, record.metrics["loss"]) for record in whole.records[back:]]
    assert all(torch.equal(*pair) for pair in zip(resumed.held[-1], whole.held[-1], strict=True))


def test_a_crash_does_not_make_a_run_forget_how_often_it_went_back(groups, tmp_path):
    health = replace(SKIP, not_finite="roll_back", after_rollback="repeat", max_rollbacks=1)
    settings = troubled_runs.config(health=health, every_tokens=300)
    options = {"log": tmp_path / "log", "checkpoints": tmp_path / "checkpoints"}
    bad = {NOT_A_NUMBER: float("nan")}
    with pytest.raises(Unhealthy, match="after 1 times of going back"):
        troubled_runs.run(groups, settings, bad, log=tmp_path / "other", checkpoints=tmp_path / "whole")
    pairs = itertools.pairwise(troubled_runs.records(tmp_path / "other"))
    back = next(number for number, (before, after) in enumerate(pairs, 1) if after["step"] <= before["step"])
    with pytest.raises(troubled_runs.Crash):
        troubled_runs.run(groups, settings, bad, crash_after=back + 1, **options)
    with pytest.raises(Unhealthy, match="after 1 times of going back"):
        troubled_runs.run(groups, settings, bad, resume=True, **options)
    assert [event["event"] for event in troubled_runs.events(tmp_path / "log")] == ["rolled_back", "unhealthy"]


def test_trouble_before_the_first_checkpoint_says_that_there_is_no_going_back(groups, tmp_path):
    settings = troubled_runs.config(health=replace(SKIP, not_finite="roll_back"), every_tokens=10**9)
    with pytest.raises(Unhealthy, match=r"not finite.* in step \d+.*; there is no going back: .*holds no checkpoint"):
        troubled_runs.run(
            groups, settings, {NOT_A_NUMBER: float("nan")}, log=tmp_path / "log", checkpoints=tmp_path / "checkpoints"
        )


def test_a_stop_says_where_to_look(groups, tmp_path):
    with pytest.raises(Unhealthy, match=r"see the batch's samples in the logs.*fit\.health\.not_finite"):
        troubled_runs.run(
            groups,
            troubled_runs.config(health=replace(SKIP, not_finite="stop")),
            {NOT_A_NUMBER: float("nan")},
            log=tmp_path / "log",
        )
    (event,) = troubled_runs.events(tmp_path / "log")
    assert {"source": "s2t", "epoch": 0, "sample": 5, "offset": 0} in event["samples"]


def test_going_back_needs_checkpoints_on_the_way():
    with pytest.raises(ValueError, match=r"fit\.checkpoint\.every_tokens=0 writes none on the way; set it"):
        replace(tiny_run.config(2000), health=replace(SKIP, loss_spike="roll_back"))


def test_no_checkpoint_is_taken_right_after_a_step_that_was_left_out(groups, tmp_path):
    """One is due after every step here. What made the step bad may be in the weights, and would be kept."""
    settings = troubled_runs.config(every_tokens=1)
    settings = replace(settings, checkpoint=replace(settings.checkpoint, keep_last=99))
    seen = troubled_runs.run(groups, settings, BAD, log=tmp_path / "log", checkpoints=tmp_path / "checkpoints")
    taken = {int(folder.name.removeprefix("tokens-")) for folder in checkpoint_folders(tmp_path / "checkpoints")}
    assert taken == {record.tokens for record in seen.records if record.is_updated}
