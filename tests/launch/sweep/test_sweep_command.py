"""`triptych sweep` on tiny runs: real processes, a failing point, Ctrl-C and going on, what is refused beforehand."""

import csv
import json
import re
import signal
import time

import pytest
import yaml
from tiny_world import listing, start_command

from triptych.launch.sweep.results import grouped, read_results

pytest_plugins = ["command_fixtures"]


def sweeping(world, out, *more, **changes):
    """Arguments of `triptych sweep` into a folder."""
    return ["sweep", "trimodal_demo", "--out", str(out), *world.settings(**changes), *more]


def steps_of(place):
    return [json.loads(line) for line in (place / "logs" / "rank0.jsonl").read_text().splitlines()]


GOOD_AND_BAD = [
    "--variant",
    "good:",
    "--variant",
    "bad: data.folder=none",
    "--grid",
    "fit.seed=0,1",
    "--processes",
    "2",
]


@pytest.fixture(scope="module")
def swept(world, tmp_path_factory):
    """A sweep with two points that train and two that cannot: folder, exit code, what was printed."""
    folder = tmp_path_factory.mktemp("swept")
    running = start_command(sweeping(world, folder / "out", *GOOD_AND_BAD), folder)
    out, err = running.communicate(timeout=300)
    assert err == ""
    return folder / "out", running.returncode, out


def rows_of(folder):
    return {row["point"]: row for row in csv.DictReader((folder / "results.csv").open())}


def test_a_failing_point_stops_no_other(swept):
    folder, code, _ = swept
    states = {name: row["state"] for name, row in rows_of(folder).items()}
    assert code == 1
    assert states == {"good,seed=0": "done", "good,seed=1": "done", "bad,seed=0": "failed", "bad,seed=1": "failed"}


def test_the_final_loss_is_that_of_the_last_tokens(swept):
    folder, _, _ = swept
    row = rows_of(folder)["good,seed=1"]
    steps = steps_of(folder / "points" / "good,seed=1")
    end = steps[-1]["tokens"]
    last = [step for step in steps if step["tokens"] > 0.9 * end]
    shares = [min(1.0, (step["tokens"] - 0.9 * end) / step["batch_tokens"]) for step in last]
    weights = [share * step["metrics"]["loss_weight"] for share, step in zip(shares, last, strict=True)]
    losses = [step["metrics"]["loss"] for step in last]
    expected = sum(weight * loss for weight, loss in zip(weights, losses, strict=True)) / sum(weights)
    assert (int(row["tokens"]), float(row["final_loss"])) == (end, pytest.approx(expected))


def test_the_seed_reached_the_run(swept):
    folder, _, _ = swept
    document = yaml.safe_load((folder / "points" / "good,seed=1" / "run.yaml").read_text())
    assert document["run"]["fit"]["seed"] == 1


def test_a_failure_is_told_with_its_last_line(swept):
    folder, _, out = swept
    reason = rows_of(folder)["bad,seed=0"]["reason"]
    assert "none/tokenizers/text" in reason
    assert reason in out
    assert reason in (folder / "table.md").read_text()


def test_each_end_is_a_line(swept):
    _, _, out = swept
    lines = re.findall(r"^[1-4] of 4  (.*?): (?:loss [\d.]+, .* tokens in .*|failed: .*)$", out, re.MULTILINE)
    assert sorted(lines) == ["bad,seed=0", "bad,seed=1", "good,seed=0", "good,seed=1"]


def test_a_sweep_keeps_what_was_asked_for_and_shows_it(swept):
    folder, _, _ = swept
    assert sorted(path.name for path in folder.iterdir()) == [
        "curves.png",
        "points",
        "results.csv",
        "sweep.yaml",
        "table.md",
    ]


def test_results_are_read_from_the_folder(swept):
    groups = grouped(read_results(swept[0]))
    assert [(group.name, group.num_seeds, group.num_failed) for group in groups] == [("good", 2, 0), ("bad", 0, 2)]


def test_the_same_command_leaves_finished_points_and_tries_failed_ones_again(command, world, swept):
    folder, _, _ = swept
    before = listing(folder / "points" / "good,seed=0", folder / "points" / "good,seed=1")
    said = (folder / "points" / "bad,seed=0" / "console.log").read_text()
    done = command(*sweeping(world, folder, *GOOD_AND_BAD))
    assert (done.code, "2 of 4 points were done before" in done.out) == (1, True)
    assert listing(folder / "points" / "good,seed=0", folder / "points" / "good,seed=1") == before
    assert (folder / "points" / "bad,seed=0" / "console.log").read_text() == said * 2


def test_a_reference_is_compared_with(command, world, swept):
    folder, _, _ = swept
    done = command(*sweeping(world, folder, "--variant", "good:", "--grid", "fit.seed=0,1", "--reference", "good"))
    assert done.code == 0
    assert "good (reference)" in (folder / "table.md").read_text()


def wait_for(condition, running, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_stopped_sweep_goes_on(command, world, tmp_path):
    variants = ["--variant", "long: fit.total_tokens=20000", "--variant", "short:"]
    arguments = sweeping(world, tmp_path / "out", *variants)
    first, second = (tmp_path / "out" / "points" / name for name in ("long", "short"))
    running = start_command(arguments, tmp_path)
    wait_for((first / "checkpoints").exists, running)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=120)
    assert (running.returncode, err, second.exists()) == (130, "", False)
    assert re.search(r"stopped with 0 of 2 points done; go on with: .*--variant short:", out)
    stopped_at = steps_of(first)[-1]["tokens"]
    assert 0 < stopped_at < 20_000
    assert command(*arguments).code == 0
    tokens = [step["tokens"] for step in steps_of(first)]
    assert (tokens == sorted(set(tokens)), stopped_at in tokens, tokens[-1] >= 20_000) == (True, True, True)
    assert {row["state"] for row in rows_of(tmp_path / "out").values()} == {"done"}


@pytest.fixture
def assert_sweep_refused(command, world, tmp_path):
    """`assert_sweep_refused(*arguments, says=...)`: one line that holds all of `says`, nothing written."""

    def check(*arguments, says, kept=()):
        before = listing(tmp_path, *kept)
        done = command(*arguments)
        assert (done.code, done.err.count("\n")) == (2, 1), done
        for words in says if isinstance(says, tuple) else (says,):
            assert str(words) in done.err
        assert "; " in done.err
        assert listing(tmp_path, *kept) == before

    return check


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--grid", "fit.seed"], "--grid fit.seed"),
        (["--grid", "fit.sed=0,1"], ("point sed=0", "there is no fit.sed", "did you mean seed?")),
        (["--grid", "fit.seed=0,one"], ("point seed=one", "fit.seed")),
        (["--grid", "fit.total_tokens=3000,100"], ("point total_tokens=100", "warmup_tokens")),
        (["--variant", "wide: model.num_query_groups=3"], ("point wide", "3 query groups")),
        (["--variant", "two: fit.parallel.pipeline=2"], ("point two", "does not divide 1 processes")),
        (["--variant", "x: name=trimodal_320m"], ("point x", "another run")),
        (["--processes", "0"], "--processes 0"),
        (["--last-fraction", "0"], "--last-fraction 0"),
        (["--windows", "1"], "--windows 1"),
        (["--reference", "nothing"], ("--reference nothing", "trimodal_demo")),
        (["--reference", "trimodal_demo"], ("one seed", "--grid fit.seed=")),
    ],
)
def test_one_wrong_point_or_option_stops_all(assert_sweep_refused, world, tmp_path, more, says):
    assert_sweep_refused(*sweeping(world, tmp_path / "out", *more), says=says)


def test_a_run_that_is_not_there_is_refused(assert_sweep_refused, tmp_path):
    assert_sweep_refused("sweep", "trimodal_dmo", "--out", tmp_path / "out", says="did you mean trimodal_demo")


def test_a_sweep_under_torchrun_is_refused(assert_sweep_refused, world, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert_sweep_refused(*sweeping(world, tmp_path / "out"), says="without torchrun")


def test_a_finished_point_with_other_settings_is_refused(assert_sweep_refused, world, swept):
    folder, _, _ = swept
    (folder / "sweep.yaml").rename(folder / "sweep.moved")
    try:
        says = (folder / "points" / "good,seed=0", "fit.total_tokens=3000, not 4000")
        changed = sweeping(world, folder, "--variant", "good:", "--grid", "fit.seed=0", fit__total_tokens=4000)
        assert_sweep_refused(*changed, says=says, kept=[folder])
    finally:
        (folder / "sweep.moved").rename(folder / "sweep.yaml")
