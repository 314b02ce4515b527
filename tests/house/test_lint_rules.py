"""The rules that ruff holds for us are on where they should be: a planted fault is reported, an exception passes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from project_sources import ROOT

DOC = '"""A module."""\n'


def codes(path, text):
    """Codes that ruff, configured as in the repository, reports for `text` if it stood at `path`."""
    command = [Path(sys.executable).parent / "ruff", "check", "--no-cache", "--output-format", "json"]
    done = subprocess.run(
        [*command, "--stdin-filename", path, "-"], input=text, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    return {found["code"] for found in json.loads(done.stdout)}


@pytest.mark.parametrize(
    ("code", "path", "text"),
    [
        ("D100", "models/planted.py", "x = 1\n"),
        ("D104", "models/__init__.py", "x = 1\n"),
        ("D101", "models/fsq/__init__.py", DOC + "class Planted:\n    x = 1\n"),
        ("D103", "models/__init__.py", DOC + "def planted() -> None:\n    return\n"),
        ("ANN001", "trainer/__init__.py", DOC + 'def planted(x) -> None:\n    """Planted."""\n'),
        ("ANN201", "trainer/__init__.py", DOC + 'def planted():\n    """Planted."""\n    return 1\n'),
        ("T201", "trainer/__init__.py", DOC + "print(1)\n"),
        ("BLE001", "launch/__init__.py", DOC + "try:\n    import x\nexcept Exception:\n    x = 1\n"),
        ("TID251", "trainer/__init__.py", DOC + "import os\n\nx = os.environ['A']\n"),
        ("TID251", "configs/__init__.py", DOC + "import os\n\nx = os.getenv('A')\n"),
        ("TID251", "models/__init__.py", DOC + "import pickle\n\nx = pickle\n"),
        ("TID251", "models/__init__.py", DOC + "import kernels\n\nx = kernels\n"),
        ("TID252", "models/fsq/__init__.py", DOC + "from .. import x\n\ny = x\n"),
        ("S307", "configs/__init__.py", DOC + "x = eval('1')\n"),
        ("S506", "configs/__init__.py", DOC + "import yaml\n\nx = yaml.load('1', Loader=yaml.Loader)\n"),
        ("NPY002", "data_pipelines/__init__.py", DOC + "import numpy as np\n\nx = np.random.rand(3)\n"),
        ("PLW0603", "trainer/__init__.py", DOC + 'def f() -> None:\n    """F."""\n    global x\n    x = 1\n'),
        ("INP001", "models/nowhere/planted.py", DOC),
        ("E501", "models/__init__.py", DOC + f"# {'x' * 120}\n"),
        ("PT011", "tests/planted.py", "import pytest\n\nwith pytest.raises(ValueError):\n    f = int('x')\n"),
    ],
)
def test_a_planted_fault_is_reported(code, path, text):
    assert code in codes(path, text)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("launch/__init__.py", DOC + "import os\n\nprint(os.environ['A'])\n"),
        ("models/__init__.py", DOC + 'def f(x_BS: int) -> int:\n    """F."""\n    y_BS = x_BS\n    return y_BS\n'),
        ("tests/planted.py", "def test_planted(tmp_path):\n    print(tmp_path)\n    assert tmp_path\n"),
    ],
)
def test_an_exception_passes(path, text):
    assert codes(path, text) == set()
