"""The floors' import contracts hold, and each of them can break."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from project_sources import FLOORS, ROOT, plain_environment, tracked_sources

FORBIDDEN = {
    "kernels/planted.py": "from triptych.models import planted",
    "data_pipelines/planted.py": "from triptych.kernels import planted",
    "models/planted.py": "import triptych.trainer.seams",
    "trainer/planted.py": "import triptych.configs",
    "configs/planted.py": "import triptych.launch",
    "trainer/planted_engine.py": "import deepspeed",
    "models/planted_engine.py": "from deepspeed.ops import adam",
    "kernels/planted_parallel.py": "from megatron.core import parallel_state",
    "data_pipelines/planted_parallel.py": "import megatron.core",
    "trainer/planted_parallel.py": "import megatron.core",
    "launch/planted_parallel.py": "import megatron.core",
}
ALLOWED = {
    "launch/planted.py": "import triptych.configs, triptych.trainer, triptych.models, triptych.kernels",
    "configs/planted.py": "import triptych.trainer",
    "trainer/parallel/planted/deep.py": "import megatron.core",
    "models/planted.py": "import megatron.core, triptych.kernels, triptych.data_pipelines",
}


def lint_with(folder, planted):
    """import-linter's verdict on a copy of the tracked tree with `planted` (path to text) added: (passes, report)."""
    package = folder / "triptych"
    files = {str(source.path): source.text for source in tracked_sources() if source.floor} | planted
    for path, text in files.items():
        target = package / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text + "\n")
        for parent in Path(path).parents[:-1]:
            (package / parent / "__init__.py").touch()
    shutil.copy(ROOT / "pyproject.toml", folder)
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache", "--config", folder / "pyproject.toml"]
    environment = plain_environment(PYTHONPATH=str(folder))
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def broken_report(tmp_path_factory):
    passes, report = lint_with(tmp_path_factory.mktemp("broken"), FORBIDDEN)
    assert not passes
    return report


def test_the_contracts_hold(tmp_path):
    passes, report = lint_with(tmp_path, {})
    assert passes, report


def test_what_is_allowed_passes(tmp_path):
    passes, report = lint_with(tmp_path, ALLOWED)
    assert passes, report


@pytest.mark.parametrize("path", FORBIDDEN)
def test_a_forbidden_import_is_found(path, broken_report):
    importer = "triptych." + path.removesuffix(".py").replace("/", ".")
    imported = re.search(r"(?:import|from) ([\w.]+)", FORBIDDEN[path]).group(1)
    target = imported if imported.startswith("triptych") else imported.partition(".")[0]
    assert re.search(rf"{re.escape(importer)} -> {re.escape(target)}\b", broken_report), broken_report


def test_every_floor_is_under_contract():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    assert contracts["root_packages"] == [f"triptych.{floor}" for floor in FLOORS]
