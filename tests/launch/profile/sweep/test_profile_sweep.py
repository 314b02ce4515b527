"""A sweep tries what can run, leaves out what cannot fit, goes on where it stopped, and says why the best is best."""

import json
import signal
import sys
import time
from dataclasses import replace

import pytest

from triptych.configs.registry import named_run
from triptych.configs.tree import with_settings
from triptych.launch.profile.command import Asked
from triptych.launch.profile.measuring import Passes
from triptych.launch.profile.predicted import predicted_bytes
from triptych.launch.profile.sweep import command, processes
from triptych.launch.profile.sweep.command import SweepConfig, sweep_run
from triptych.launch.profile.sweep.folder import Outcome, ProfileFolder
from triptych.launch.profile.sweep.points import (
    KERNEL,
    LAYOUT,
    MICRO_BATCH,
    PIPELINE,
    RECOMPUTE,
    SEQUENCE,
    STAGE_LAYERS,
    TENSOR,
    ZERO,
    axes_of,
    changed_options,
    own_point,
    point_run,
    require_possible,
)
from triptych.launch.profile.sweep.processes import Ending, run_point
from triptych.launch.profile.sweep.reasons import reasons
from triptych.launch.profile.sweep.search import Search, best, expected_bytes
from triptych.launch.sweep.grid import parse_grid
from triptych.trainer.parallel.placement import Placement
from triptych.trainer.parallel.refusal import is_legal

GIB = 2**30


@pytest.fixture(scope="module")
def run():
    """Whose vocabulary and rows divide."""
    settings = ("fit.physical_batch=16", "model.vocabulary_multiple=8", "data.packing.row_length=112")
    return with_settings(named_run("trimodal_demo"), settings)


def axes(run, world_size=1, *grids):
    return axes_of(run, world_size, ["auto"], [parse_grid(grid) for grid in grids])


def outcome(point, speed=None, gib=1.0, state="done"):
    size = int(gib * GIB)
    return Outcome(point=point, state=state, tokens_per_second=speed, step_seconds=0.1, peak_bytes=size)


def searched(run, profile, *grids, world_size=1, limit_gib=64.0, predict=lambda tree: 0):
    limit = int(limit_gib * GIB)
    found = axes(run, world_size, *grids)
    search = Search(run=run, world_size=world_size, axes=found, limit_bytes=limit, predict=predict, profile=profile)
    return search()


def test_every_point_that_is_tried_can_run(run):
    tried = []

    def profile(point):
        tried.append(point)
        return outcome(point, speed=100.0)

    searched(run, profile, f"{MICRO_BATCH}=4", world_size=2)
    assert len({point.name for point in tried}) == len(tried)
    assert all(is_legal(with_settings(run, point.options).plan(2)) for point in tried)
    layouts = {tuple(point.arm[path] for path in LAYOUT) for point in tried}
    assert layouts == {(1, 1, 1, False), (1, 2, 1, False), (2, 1, 1, True), (2, 1, 1, False)}
    assert {point.arm[ZERO] for point in tried if point.arm[PIPELINE] > 1} == {1}


def test_the_fastest_arm_is_climbed_and_the_slow_are_not(run):
    def profile(point):
        speed = {0: 50.0, 1: 100.0, 2: 70.0}[point.arm[ZERO]] + min(point.micro_batch, 8)
        return outcome(point, speed=speed * (0.8 if point.recompute == "full" else 1.0), gib=point.micro_batch)

    outcomes = searched(run, profile)
    sizes = {zero: [o.point.micro_batch for o in outcomes if o.point.arm[ZERO] == zero] for zero in (0, 1, 2)}
    assert sizes[0] == sizes[2] == [4]
    assert set(sizes[1]) >= {1, 2, 4, 8, 16}
    assert (best(outcomes).point.micro_batch, best(outcomes).point.recompute) == (8, "none")


def test_a_failure_is_a_result_and_the_search_goes_on(run):
    def profile(point):
        state = "failed" if point.arm[ZERO] == 1 else "done"
        return outcome(point, speed=None if state == "failed" else 10.0, state=state)

    outcomes = searched(run, profile)
    assert {o.state for o in outcomes if o.point.arm[ZERO] == 1} == {"failed"}
    assert best(outcomes).point.arm[ZERO] in (0, 2)


def test_where_a_micro_batch_does_not_fit_recomputation_gets_it(run):
    def profile(point):
        held = point.micro_batch * (0.5 if point.recompute == "full" else 1.0)
        return outcome(point, speed=point.micro_batch * (1.5 if point.recompute == "none" else 1.4), gib=held)

    outcomes = searched(run, profile, "fit.engine.zero_stage=1", limit_gib=9.0)
    states = {(o.point.micro_batch, o.point.recompute): o.state for o in outcomes}
    assert states[8, "none"] == "done" and states[16, "none"] in ("pruned", "out of memory")
    assert states[16, "full"] == "done" and best(outcomes).point.recompute == "full"


def test_what_cannot_fit_is_not_run(run):
    def profile(point):
        raise AssertionError("nothing of it fits")

    outcomes = searched(run, profile, limit_gib=1e-3, predict=lambda tree: predicted_bytes(tree, 1, "cpu"))
    assert outcomes and {o.state for o in outcomes} == {"pruned"} and best(outcomes) is None


def test_memory_is_extrapolated_along_the_micro_batch(run):
    arm = next(axes(run, 1, "fit.engine.zero_stage=1").arms())
    points = {size: with_size(run, arm, size) for size in (2, 4, 16)}
    known = [outcome(points[2], 1.0, gib=3.0), outcome(points[4], 1.0, gib=4.0)]
    assert expected_bytes(points[16], 1, known) == (4 + 0.5 * 12) * GIB
    assert expected_bytes(points[16], 7, known[:1]) == 7


def with_size(run, arm, size):
    return type(own_point(run, arm))(arm=arm, micro_batch=size, recompute="none")


def test_a_gain_within_a_percent_is_not_worth_memory(run):
    arm = next(axes(run, 1).arms())
    outcomes = [outcome(with_size(run, arm, 4), 100.0, gib=10), outcome(with_size(run, arm, 8), 100.9, gib=41)]
    assert best(outcomes) is outcomes[0]
    assert reasons(outcomes[0], outcomes)[1].startswith("It is 0.9% slower than the fastest")


def test_reasons_name_gain_and_memory(run):
    arm = next(axes(run, 1).arms())
    top = outcome(with_size(run, arm, 8), 102.0, gib=41)
    full = type(top.point)(arm=arm, micro_batch=8, recompute="full")
    lines = reasons(top, [outcome(with_size(run, arm, 4), 100.0, gib=10), outcome(full, 77.52, gib=21), top])
    assert "micro-batch 8 gains 2.0% over 4, for 31 GiB more" in lines
    assert "recomputation full costs 24.0% and holds 20 GiB less" in lines


@pytest.mark.parametrize(("quartiles", "within"), [((0.09, 0.12), True), ((0.13, 0.14), False)])
def test_a_gain_within_the_spread_is_said_to_be(run, quartiles, within):
    arm = next(axes(run, 1).arms())
    top = replace(outcome(with_size(run, arm, 8), 102.0), quartiles=(0.1, 0.11))
    other = replace(outcome(with_size(run, arm, 4), 100.0), quartiles=quartiles)
    assert any("within the spread" in line for line in reasons(top, [other, top])) is within


def test_a_grid_takes_the_place_of_an_axis_or_adds_one(run):
    found = axes(run, 1, f"{RECOMPUTE}=none", f"{MICRO_BATCH}=2,4", f"{KERNEL}=auto", "fit.loader.num_workers=0,1")
    assert (found.recomputes, found.micro_batches) == (["none"], [2, 4])
    assert {arm["fit.loader.num_workers"] for arm in found.arms()} == {0, 1}
    assert {arm[KERNEL] for arm in found.arms()} == {"auto"}  # one value of a grid is no less asked for


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (f"{RECOMPUTE}=none,ful", "fit.recompute=ful can be had by no point"),
        ("fit.recomptue=none", "did you mean recompute"),
        (f"{MICRO_BATCH}=32", "a rank has 8 rows"),
        (f"{TENSOR}=3", "2 processes have no such layout"),
        (f"{TENSOR}=0", "no whole number of 1 or more"),
        (f"{MICRO_BATCH}=two", "no whole number of 1 or more"),
        (f"{PIPELINE}=2,3", "fit.parallel.pipeline=3 can be had by no point"),
    ],
)
def test_a_grid_that_cannot_run_is_refused(run, grid, message):
    grids = [parse_grid(grid)]
    with pytest.raises(ValueError, match=message):
        require_possible(run, axes_of(run, 2, ["auto"], grids), grids, 2)


def test_a_grid_that_some_points_can_have_is_not_refused(run):
    grids = [parse_grid(f"{SEQUENCE}=true,false"), parse_grid(f"{ZERO}=0,2"), parse_grid("fit.noise_scale=null")]
    assert require_possible(run, axes_of(run, 2, ["auto"], grids), grids, 2) is None


def test_a_run_with_layers_of_its_own_has_other_layouts_too(run):
    staged = with_settings(run, ["fit.parallel.pipeline=2", f"{STAGE_LAYERS}=[2, 1]", "fit.engine.zero_stage=1"])
    found = {arm[PIPELINE]: arm[STAGE_LAYERS] for arm in axes(staged, 2).arms()}
    assert found == {1: [], 2: [2, 1]}
    alone = next(arm for arm in axes(staged, 2, f"{ZERO}=1").arms() if arm[PIPELINE] == 1)
    assert set(changed_options(staged, own_point(staged, alone))) == {f"{PIPELINE}=1", f"{STAGE_LAYERS}=[]"}
    top = outcome(own_point(staged, alone), 10.0)
    assert any(
        line.startswith("layout ")
        for line in reasons(
            top,
            [
                top,
                outcome(
                    own_point(staged, next(arm for arm in axes(staged, 2, f"{ZERO}=1").arms() if arm[PIPELINE] == 2)),
                    9.0,
                ),
            ],
        )[2:]
    )


def test_options_to_paste_are_what_differs_from_the_run(run):
    arm = next(axes(run, 2, f"{TENSOR}=2", f"{ZERO}=1", f"{PIPELINE}=1").arms())
    assert changed_options(run, own_point(run, arm)) == [f"{TENSOR}=2"]
    assert point_run(run, with_size(run, arm, 32), 2) is None  # more rows at once than a rank has


def test_options_to_paste_may_go_together_alone(run):
    """Sequence parallelism is refused without tensor parallelism."""
    arm = next(axes(run, 2, f"{TENSOR}=2", f"{ZERO}=1", f"{SEQUENCE}=true").arms())
    assert changed_options(run, own_point(run, arm)) == [f"{TENSOR}=2", f"{SEQUENCE}=true"]


@pytest.mark.parametrize("batch", ["{tokens: [0, 1000], sequences: [16, 64]}", "auto"])
def test_a_batch_that_changes_is_that_of_the_first_step_at_every_point(tmp_path, monkeypatch, batch):
    batches = set()

    def ended(arguments, folder, **_):
        settings = [arguments[place + 1] for place, word in enumerate(arguments) if word == "--set"]
        batches.add(with_settings(named_run("trimodal_demo"), settings).fit.physical_batch)
        return Ending(state="out of memory", reason="full")

    monkeypatch.setattr(command, "run_point", ended)
    noise = "fit.noise_scale={every_tokens: 1000, half_life_tokens: 10000}"
    settings = ("fit.engine.zero_stage=1", "fit.logical_batch=16", noise, f"fit.physical_batch={batch}")
    config = SweepConfig(grids=("fit.engine.zero_stage=1", f"{MICRO_BATCH}=4"), world_size=1)
    assert sweep_run(replace(asked(tmp_path), settings=settings), Passes(), config, Placement()) == 1
    assert batches == {16}


SCRIPTS = {
    "done": "print('well')",
    "out of memory": "raise SystemExit('torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB')",
    "failed": "raise SystemExit('triptych: error: no')",
    "too long": "import time; time.sleep(60)",
}


@pytest.mark.parametrize("state", SCRIPTS)
def test_how_processes_end(state, tmp_path, monkeypatch):
    script = tmp_path / "stand_in.py"
    script.write_text(f"#!{sys.executable}\n{SCRIPTS[state]}\n")
    script.chmod(0o755)
    monkeypatch.setattr(processes.sys, "executable", str(script))
    ending = run_point([], tmp_path / "point", world_size=2, limit_seconds=1.0 if state == "too long" else 30.0)
    assert ending.state == state
    assert state != "failed" or ending.reason == "no"


def test_what_a_process_has_started_ends_with_it(tmp_path, monkeypatch):
    left = tmp_path / "left"
    script = tmp_path / "stand_in.py"
    command = "import subprocess, sys; "
    command += f"open({str(left)!r}, 'w').write(str(subprocess.Popen(['sleep', '60']).pid))"
    script.write_text(f"#!{sys.executable}\n{command}\n")
    script.chmod(0o755)
    monkeypatch.setattr(processes.sys, "executable", str(script))
    assert run_point([], tmp_path / "point", world_size=1, limit_seconds=30.0).state == "done"
    deadline = time.monotonic() + 10
    while is_running(int(left.read_text())) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(int(left.read_text()))


def is_running(pid):
    """Nobody may have collected it yet."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def asked(folder):
    return Asked(
        name="trimodal_demo",
        settings=(),
        num_micro_batches=None,
        data="synthetic",
        folder=folder,
        code="abc",
        command="triptych profile trimodal_demo --sweep",
    )


def test_a_sweep_that_failed_is_written_down_and_goes_on(tmp_path, monkeypatch, capsys):
    calls, endings = [], [Ending(state="failed", reason="no device"), Ending(state="out of memory", reason="full")]

    def ended(arguments, folder, **_):
        calls.append(folder.name)
        return endings["zero_stage=1" in folder.name]

    monkeypatch.setattr(command, "run_point", ended)
    grids = (
        "fit.engine.zero_stage=0,1",
        "fit.parallel.tensor=1",
        "fit.micro_batch_per_dp_rank=4",
        "fit.recompute=none",
    )
    config = SweepConfig(grids=grids, world_size=1)
    assert [sweep_run(asked(tmp_path), Passes(), config, Placement()) for _ in range(2)] == [1, 1]
    tried = ["zero_stage=1" in name for name in calls]
    assert tried == [False, True, False]  # the second time what failed, not what was out of memory
    document = json.loads((tmp_path / "sweep.json").read_text())
    assert document["best"] is None and "No point" in document["reasons"][0]
    assert "out of memory" in (tmp_path / "table.md").read_text() and (tmp_path / "sweep.html").exists()


def test_a_sweep_that_is_stopped_ends_its_processes_and_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def asked_to_stop(arguments, folder, **options):
        signal.raise_signal(signal.SIGTERM)
        return run_point(arguments, folder, **options)

    script = tmp_path / "stand_in.py"
    script.write_text(f"#!{sys.executable}\n{SCRIPTS['too long']}\n")
    script.chmod(0o755)
    monkeypatch.setattr(processes.sys, "executable", str(script))
    monkeypatch.setattr(command, "run_point", asked_to_stop)
    assert sweep_run(asked(tmp_path / "out"), Passes(), SweepConfig(world_size=2), Placement()) == 130
    assert "stopped after 0 points; go on with: triptych profile" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "sweep.json").read_text())["points"] == []


def test_a_folder_of_another_sweep_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "run_point", lambda *_, **__: Ending(state="out of memory", reason="full"))
    config = SweepConfig(grids=("fit.engine.zero_stage=1",), world_size=1)
    sweep_run(asked(tmp_path), Passes(), config, Placement())
    with pytest.raises(ValueError, match="steps 20, not 5; choose another --out"):
        sweep_run(asked(tmp_path), Passes(num_steps=5), config, Placement())


def test_a_folder_of_another_sweep_that_was_killed_is_refused(tmp_path, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "run_point", killed)
    config = SweepConfig(grids=("fit.engine.zero_stage=1",), world_size=1)
    with pytest.raises(KeyboardInterrupt):
        sweep_run(asked(tmp_path), Passes(), config, Placement())
    with pytest.raises(ValueError, match="steps 20, not 5; choose another --out"):
        sweep_run(asked(tmp_path), Passes(num_steps=5), config, Placement())


def test_a_point_is_read_only_for_itself_and_its_commit(run, tmp_path):
    place = ProfileFolder(folder=tmp_path)
    first, second = (with_size(run, {ZERO: 1, path: 1}, 4) for path in ("data.a.weight", "data.b.weight"))
    assert first.name == second.name
    place.keep(replace(outcome(first, 10.0), commit="abc"))
    assert place.read(first, "abc") is not None
    assert place.read(second, "abc") is None and place.read(first, "abd") is None


def test_one_sweep_at_a_time(tmp_path):
    place = ProfileFolder(folder=tmp_path)
    with place.held(), pytest.raises(ValueError, match="another sweep"), place.held():
        pass


def test_a_sweep_is_not_started_under_torchrun(tmp_path):
    with pytest.raises(ValueError, match="without torchrun"):
        sweep_run(asked(tmp_path), Passes(), SweepConfig(), Placement(rank=0, world_size=2, local_rank=0))
