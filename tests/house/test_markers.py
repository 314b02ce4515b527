"""What a test may count on from tests/conftest.py: markers skip with a reason, every test starts the same."""

import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from project_sources import ROOT, plain_environment

PLANTED = """
import pytest

@pytest.mark.gpu
def test_gpu(): assert True

@pytest.mark.multi_gpu
def test_multi_gpu(): assert True

@pytest.mark.slow
def test_slow(): assert True

def test_plain(): assert True
"""


def outcome(folder, *options):
    """pytest's report of PLANTED under our conftest, on a machine that shows no CUDA device."""
    for name in ("conftest.py", "gloo_processes.py"):
        shutil.copy(ROOT / "tests" / name, folder)
    (folder / "test_planted_markers.py").write_text(PLANTED)
    command = [Path(sys.executable).parent / "pytest", "-c", ROOT / "pyproject.toml", "--rootdir", folder, folder, "-q"]
    environment = plain_environment(CUDA_VISIBLE_DEVICES="")
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", *options],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


def test_each_marker_skips_with_its_reason(tmp_path):
    report = outcome(tmp_path)
    assert "1 passed, 3 skipped" in report
    for reason in ("needs 1 CUDA device(s), sees 0", "needs 2 CUDA device(s), sees 0", "takes minutes; add --slow"):
        assert reason in report


def test_slow_tests_run_when_asked(tmp_path):
    assert "2 passed, 2 skipped" in outcome(tmp_path, "--slow")


@pytest.mark.parametrize("attempt", [1, 2])
def test_every_test_starts_from_the_same_seeds(attempt):
    drawn = random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002 - the global one is what is asked about
    assert drawn == (0.8444218515250481, 0.5488135039273248, pytest.approx(0.4962565899))


def test_a_test_has_one_thread():
    assert torch.get_num_threads() == 1
