"""What every test may count on: one thread, fixed seeds, markers that skip with a reason, processes joined by gloo."""

import io
import os
import random
import sys
from pathlib import Path

import pytest
from gloo_processes import Processes
from hypothesis import settings

FLOORS = ("launch", "configs", "trainer", "models", "kernels", "data_pipelines")

# Nothing above imports torch, which reads these once. Two workers of one thread each beat one of two.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

settings.register_profile("triptych", deadline=None, derandomize=True, database=None)
settings.load_profile("triptych")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests marked slow, too")


def pytest_collection_modifyitems(config, items):
    for item in items:
        reason = _why_skipped(item, config.getoption("--slow"))
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


def _why_skipped(item, slow):
    """None, or the reason. Torch is asked about devices only if a test wants one: importing it takes seconds."""
    if item.get_closest_marker("slow") and not slow:
        return "takes minutes; add --slow"
    for marker, needed in (("gpu", 1), ("multi_gpu", 2)):
        if item.get_closest_marker(marker):
            import torch

            found = torch.cuda.device_count()
            if found < needed:
                return f"needs {needed} CUDA device(s), sees {found}"
    return None


@pytest.fixture(autouse=True)
def _same_start():
    """The same generators and one thread for every test, whatever ran before in this worker."""
    random.seed(0)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)
        torch.set_num_threads(1)


@pytest.fixture
def run_processes(tmp_path):
    """`run_processes(function, num_processes, *arguments, timeout_seconds=120)`: each rank's `function(*arguments)`.

    The function is a module-level one of the test file. Every process has one thread and a gloo group, joined through
    a file (no ports). A rank that raises, dies or hangs fails the test; the message starts with its traceback.
    """
    return Processes(tmp_path)


def pytest_terminal_summary(terminalreporter, config):
    """Coverage per floor, when it was measured; the run's own last line still comes last."""
    if not config.getoption("cov_source", default=None) or hasattr(config, "workerinput"):
        return
    terminalreporter.section("coverage per floor")
    for floor, percent in _coverage_per_floor(config.rootpath):
        terminalreporter.write_line(f"{floor:<16}{'no statement' if percent is None else f'{percent:5.1f} %'}")


def _coverage_per_floor(root: Path):
    import coverage
    from coverage.exceptions import CoverageException

    measured = coverage.Coverage(config_file=str(root / "pyproject.toml"), data_file=str(root / ".coverage"))
    measured.load()
    for floor in FLOORS:
        try:
            yield floor, measured.report(include=[f"{floor}/*"], file=io.StringIO())
        except CoverageException:
            yield floor, None
