"""`triptych slurm`: what it refuses, what lies in the folder afterwards, and that bash can read the script."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from triptych.launch.slurm.code_copy import copied_commit

pytest_plugins = ["command_fixtures"]

SHAPE = ["--nodes", "2", "--gpus-per-node", "2"]


@pytest.fixture
def slurm(command, world, tmp_path):
    """`slurm(*options, **settings)` into tmp_path/run."""

    def call(*options, **changes):
        given = [*SHAPE, "--run-dir", tmp_path / "run", *options]
        return command("slurm", "trimodal_demo", *given, *world.settings(fit__micro_batch_per_dp_rank=2, **changes))

    return call


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
    """A program of that name that keeps what it is called with, and gives numbers."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "sbatch").write_text(f'#!/bin/bash\necho "$@" >> {folder}/calls\nwc -l < {folder}/calls\n')
    (folder / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return lambda: (folder / "calls").read_text().splitlines()


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--chain", "2", "--gpu-request", "gres", "--cpus-per-node", "16", "--partition", "a b"],
        ["--container", "image.sqsh", "--mount", "/data:/data"],
        ["--container", "image.sif"],
        ["--grid", "fit.seed=0,1"],
    ],
    ids=["plain", "options", "pyxis", "apptainer", "sweep"],
)
def test_bash_can_read_the_script(slurm, tmp_path, options):
    done = slurm(*options)
    assert (done.code, (tmp_path / "run" / "slurm" / "job.sbatch").read_text()) == (0, done.out)
    checked = subprocess.run(["bash", "-n"], input=done.out, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    if shutil.which("shellcheck"):
        found = subprocess.run(["shellcheck", "-"], input=done.out, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stdout


def test_the_folder_holds_settings_code_and_script(slurm, tmp_path):
    slurm(fit__seed=5)
    run = tmp_path / "run"
    assert sorted(path.name for path in run.iterdir()) == ["code", "code.diff", "run.yaml", "slurm"]
    assert yaml.safe_load((run / "run.yaml").read_text())["run"]["fit"]["seed"] == 5


def test_the_copy_of_the_code_runs_by_itself(slurm, tmp_path):
    """Named by PYTHONPATH it is found before what is installed."""
    slurm()
    code = tmp_path / "run" / "code"
    program = "import triptych.launch.slurm.code_copy as found; print(found.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(code)},
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert Path(done.stdout.strip()) == code / "triptych" / "launch" / "slurm" / "code_copy.py"
    assert copied_commit(code / "triptych") == yaml.safe_load((tmp_path / "run" / "run.yaml").read_text())["commit"]


def test_what_no_job_has_begun_is_made_anew(slurm, tmp_path):
    slurm(fit__seed=5)
    assert slurm(fit__seed=6).code == 0
    assert yaml.safe_load((tmp_path / "run" / "run.yaml").read_text())["run"]["fit"]["seed"] == 6


def test_a_prepared_run_is_begun_by_its_own_settings(slurm, command, tmp_path):
    slurm(fit__total_tokens=500, fit__seed=5)
    run = tmp_path / "run"
    done = command("train", "trimodal_demo", "--run-dir", run, "--resume-if-started")
    assert done.code == 0, done.err
    assert (run / "finished").read_text() == f"{int(sorted((run / 'checkpoints').iterdir())[-1].name[7:])}\n"


def test_a_begun_run_is_gone_on_with_by_resume(command, own_run):
    given = ["slurm", "trimodal_demo", "--nodes", "1", "--gpus-per-node", "1", "--run-dir", own_run]
    done = command(*given, "--resume", "--set", "fit.total_tokens=4000")
    assert done.code == 0, done.err
    assert "--resume-if-started --set fit.total_tokens=4000" in done.out
    assert not (own_run / "finished").exists()


def test_a_chain_is_submitted_job_by_job(slurm, sbatch, tmp_path):
    done = slurm("--chain", "3", "--submit")
    assert sbatch() == [f"--parsable {tmp_path / 'run' / 'slurm' / 'job.sbatch'}"] * 3
    assert re.findall(r"^job (\d+), ", done.out, re.MULTILINE) == ["1", "2", "3"]


def test_points_share_one_copy_of_the_code(slurm, tmp_path):
    slurm("--grid", "fit.seed=0,1")
    listed = (tmp_path / "run" / "slurm" / "points.txt").read_text().splitlines()
    assert [Path(line).name for line in listed] == ["seed=0", "seed=1"]
    assert {(Path(line) / "code").resolve() for line in listed} == {tmp_path / "run" / "code"}


@pytest.fixture
def started(tmp_path):
    """Starts the script as Slurm would, where every step fails at once; exit code, output, calls of scontrol."""
    folder = tmp_path / "programs"
    folder.mkdir()
    programs = {"srun": "exit 1", "scontrol": f'echo "$@" >> {folder}/calls', "squeue": "", "scancel": ""}
    for name, body in programs.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)
    job = {"JOB_ID": "7", "JOB_NODELIST": "a", "JOB_USER": "me", "JOB_NAME": "run", "JOB_NUM_NODES": "2"}
    environment = {f"SLURM_{name}": value for name, value in job.items()}
    environment["PATH"] = f"{folder}:{os.environ['PATH']}"

    def call(script):
        done = subprocess.run(
            ["bash", script], env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        return done.returncode, done.stdout, (folder / "calls").read_text()

    return call


def test_a_failed_start_comes_back_until_it_is_given_up(slurm, started, tmp_path):
    assert slurm("--max-failures", "1").code == 0
    code, _, calls = started(tmp_path / "run" / "slurm" / "job.sbatch")
    assert (code, calls.count("requeue 7")) == (0, 1)
    code, said, calls = started(tmp_path / "run" / "slurm" / "job.sbatch")
    assert (code, calls.count("requeue 7")) == (1, 1)
    assert "2 starts in a row without a new checkpoint: given up" in said


def test_a_start_that_cannot_be_counted_does_not_come_back(slurm, started, tmp_path):
    """It would for ever."""
    assert slurm().code == 0
    (tmp_path / "run" / "slurm" / "fruitless").mkdir()  # nothing can be written there, as on a full disk
    code, said, calls = started(tmp_path / "run" / "slurm" / "job.sbatch")
    assert (code, calls.count("requeue")) == (1, 0)
    assert "takes no more" in said


@pytest.mark.parametrize("name", ["a:b", "a,b", "a#b", "a$b", "a'b"])
def test_a_folder_that_others_would_misread_is_refused(assert_refused, world, tmp_path, name):
    settings = world.settings(fit__micro_batch_per_dp_rank=2)
    folder = tmp_path / name
    assert_refused("slurm", "trimodal_demo", *SHAPE, "--run-dir", folder, *settings, says=(name, "another folder"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--nodes", "0"], "--nodes 0"),
        (["--time", "soon"], "--time soon"),
        (["--time", "1", "--grace-seconds", "60"], "--grace-seconds 60"),
        (["--sbatch", "nodes=4"], "--sbatch nodes"),
        (["--sbatch", "Mail"], "--sbatch Mail"),
        (["--gpu-request", "some"], "--gpu-request some"),
        (["--venv", "nowhere"], "nowhere"),
        (["--mount", "a:b"], "--container"),
        (["--chain", "2", "--grid", "fit.seed=0,1"], "--chain"),
        (["--resume"], "holds no run"),
        (["--set", "fit.logical_batch=3"], "logical_batch"),
        (["--set", "fit.sed=3"], "fit.sed"),
    ],
)
def test_what_cannot_be_is_refused(assert_refused, world, tmp_path, options, says):
    settings = world.settings(fit__micro_batch_per_dp_rank=2)
    given = ["slurm", "trimodal_demo", *SHAPE, "--run-dir", tmp_path / "run", *settings, *options]
    assert_refused(*given, says=says)


def test_a_folder_that_holds_a_run_is_refused(assert_refused, trained):
    assert_refused("slurm", "trimodal_demo", *SHAPE, "--run-dir", trained, says=(trained, "--resume"))
