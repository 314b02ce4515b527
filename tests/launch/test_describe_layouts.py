"""`triptych train --describe` of other layouts and worlds, and their refusal, before anything else happens."""

import re

import pytest

pytest_plugins = ["command_fixtures"]


def settings(**values):
    return [part for name, value in values.items() for part in ("--set", f"{name.replace('__', '.')}={value}")]


def described(command, *arguments):
    done = command("train", "trimodal_3b", "--describe", *arguments)
    assert (done.code, done.err) == (0, "")
    return done.out


def test_a_layout_of_many_processes_is_described_on_one(command):
    layout = settings(fit__parallel__tensor=4, fit__parallel__pipeline=4, fit__parallel__virtual=2)
    out = described(command, "--world-size", "64", *layout)
    assert "64 processes = 4 tensor x 4 pipeline x 4 data parallel; ZeRO-1, bf16" in out
    assert re.findall(r"^ +\d  (.*?)  ", out, re.MULTILINE) == [
        "embedding, 0-2, 12-14",
        "3-5, 15-17",
        "6-8, 18-20",
        "9-11, 21-23, heads",
    ]


def test_one_process_holds_all_parameters(command):
    out = described(command)
    counted, held = re.search(r" parameters +([\d,]+)", out)[1], re.search(r"0-23, heads +([\d,]+)", out)[1]
    assert counted == held == "3,027,133,440"


def test_a_layout_that_does_not_fit_is_refused_with_one_that_does(command):
    layout = settings(fit__parallel__tensor=3, fit__parallel__pipeline=2)
    done = command("train", "trimodal_3b", "--describe", "--world-size", "12", *layout)
    assert done.code == 2
    assert "tensor=3 does not divide 8 query groups" in done.err
    mends = done.err.strip().split("nearest that can run: ")[1].split(", ")[0].split(" with ")
    described(command, "--world-size", "12", *layout, *(part for mend in mends for part in ("--set", mend)))


def test_training_refuses_a_layout_before_it_looks_at_the_data(command, tmp_path):
    run_dir = tmp_path / "run"
    done = command("train", "trimodal_demo", "--run-dir", str(run_dir), *settings(fit__parallel__tensor=2))
    assert (done.code, run_dir.exists()) == (2, False)
    assert "tensor=2 times pipeline=1 does not divide 1 processes" in done.err


@pytest.mark.parametrize("arguments", [["--world-size", "4"], ["--describe", "--world-size", "0"]])
def test_a_world_size_without_a_description_is_refused(command, arguments):
    done = command("train", "trimodal_demo", *arguments)
    assert done.code == 2
    assert "--world-size is a number of processes for --describe" in done.err
