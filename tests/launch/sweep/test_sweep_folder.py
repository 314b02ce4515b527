"""What a sweep keeps on disk, and what may not come into one folder."""

import os
import subprocess

import pytest
from made_up_sweep import call, make_sweep

from triptych.configs.registry import named_run
from triptych.configs.tree import to_yaml
from triptych.launch.environment import environment_of_child
from triptych.launch.sweep.folder import Asked, SweepFolder, asked_for
from triptych.launch.sweep.grid import parse_grid, parse_variant, sweep_points
from triptych.launch.sweep.processes import latest


def asked(*, run="trimodal_demo", settings=("fit.seed=0",), variants=("a: x=1",), grids=("y=1",), command="one"):
    named = [parse_variant(text) for text in variants]
    points = sweep_points(run, settings=settings, variants=named, grids=[parse_grid(text) for text in grids])
    return asked_for(run, settings, named, points, call(command))


def test_what_was_asked_for_is_read_as_it_was_written(tmp_path):
    first = asked(variants=["a: x=[1, 2]", "b:"], grids=["y=1e-3,text,[0.9, 0.95]", "fit.seed=0"])
    SweepFolder(folder=tmp_path).write(first)
    found = SweepFolder(folder=tmp_path).read()
    assert to_yaml(found) == to_yaml(first)


def test_a_later_call_adds_points(tmp_path):
    joined = asked().joined(asked(grids=["y=2,1"], variants=["a: x=1", "b:"]), tmp_path)
    assert list(joined.points) == ["a,y=1", "a,y=2", "b,y=2", "b,y=1"]


def test_the_same_call_again_is_noted_once(tmp_path):
    joined = asked().joined(asked(), tmp_path).joined(asked(command="two"), tmp_path)
    assert [each.command for each in joined.calls] == ["one", "two"]


def test_settings_in_another_order_or_spelling_are_the_same(tmp_path):
    first, later = asked(settings=["a.b=0.001", "c=2"]), asked(settings=["c=2", "a.b=1e-3"])
    assert first.joined(later, tmp_path).settings == ["a.b=0.001", "c=2"]


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"run": "trimodal_320m"}, "a sweep of trimodal_demo"),
        ({"settings": ["fit.seed=1"]}, "with other --set"),
        ({"variants": ["a: x=2"]}, "a variant a with other settings"),
    ],
)
def test_what_would_mean_two_things_is_refused(tmp_path, other, says):
    with pytest.raises(ValueError, match=f"{says}.*; "):
        asked().joined(asked(**other), tmp_path)


@pytest.mark.parametrize("text", ["", "[1", "points: 3", "run: a\npoints: {a: 1}", "run: 3\nsettings: []\npoints: {}"])
def test_a_damaged_sweep_yaml_is_refused(tmp_path, text):
    (tmp_path / "sweep.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"sweep.yaml.*; "):
        SweepFolder(folder=tmp_path).read()


def test_a_folder_is_one_sweeps(tmp_path):
    place = SweepFolder(folder=tmp_path / "new")
    with place.held(), pytest.raises(ValueError, match=r"another sweep, .*; wait"), place.held():
        pass


def test_a_folder_is_held_as_long_as_a_run_of_it_lives(tmp_path):
    place = SweepFolder(folder=tmp_path)
    with place.held() as descriptor:
        left = subprocess.Popen(["sleep", "60"], pass_fds=(descriptor,))
    try:
        with pytest.raises(ValueError, match="left behind"), place.held():
            pass
    finally:
        left.kill()
        left.wait()
    with place.held() as descriptor:
        assert os.fstat(descriptor)


def test_an_outcome_is_kept_until_the_next_attempt(tmp_path):
    place = SweepFolder(folder=tmp_path).point("a")
    place.folder.mkdir(parents=True)
    place.record("failed", "why: “so”")
    before = place.outcome()
    place.forget()
    assert (before, place.outcome()) == (("failed", "why: “so”"), (None, ""))


def test_the_last_line_is_the_last_with_words(tmp_path):
    place = SweepFolder(folder=tmp_path).point("a")
    place.folder.mkdir(parents=True)
    place.console.write_text("one\n two  \n\n \n")
    assert place.last_line() == "two"


def test_the_latest_step_is_the_last_whole_one(tmp_path):
    place = make_sweep(tmp_path, losses=lambda point: [3.0, 2.0]).point("trimodal_demo")
    with place.run.log(0).open("a") as log:
        log.write('{"event": "note"}\n{"tokens": 900, "metr')
    tokens, metrics = latest(place)
    assert (tokens, metrics["loss"]) == (200, 2.0)


@pytest.mark.parametrize(
    ("given", "num_sharing", "threads"), [(None, 2, 4), (None, 3, 2), (None, 16, 1), ("3", 2, 3), ("9", 2, 4)]
)
def test_cores_are_shared_evenly(monkeypatch, given, num_sharing, threads):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.delenv("OMP_NUM_THREADS")
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert environment_of_child(num_sharing)["OMP_NUM_THREADS"] == str(threads)


def test_a_run_of_other_settings_is_refused(tmp_path):
    place = SweepFolder(folder=tmp_path).point("a")
    run = named_run("trimodal_demo")
    place.run.start(run, "triptych train")
    from triptych.configs.tree import with_settings

    with pytest.raises(ValueError, match=r"started with fit.seed=0, not 7; choose another --out"):
        place.require_settings(with_settings(run, ["fit.seed=7"]))


def test_a_run_of_the_same_settings_passes(tmp_path):
    place = SweepFolder(folder=tmp_path).point("a")
    place.run.start(named_run("trimodal_demo"), "triptych train")
    place.require_settings(named_run("trimodal_demo"))
    assert isinstance(asked(), Asked)
