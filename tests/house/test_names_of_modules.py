"""One name per module: `triptych.kernels`, never `kernels`, which is another project's package."""

import ast

import pytest
from project_sources import FLOORS, Source, tracked_sources


def bare_imports(source):
    """`file:line name` of each import of a floor by its folder's name."""
    for node in source.walk(ast.Import, ast.ImportFrom):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        for name in names:
            if name.partition(".")[0] in FLOORS:
                yield f"{source.at(node)} {name}"


def relative_imports(source):
    return [source.at(node) for node in source.walk(ast.ImportFrom) if node.level]


def test_no_file_imports_a_bare_folder():
    assert [line for source in tracked_sources() for line in bare_imports(source)] == []


def test_no_file_imports_relatively():
    assert [line for source in tracked_sources() for line in relative_imports(source)] == []


@pytest.mark.parametrize(
    "text",
    ["import kernels", "import models.fsq as fsq", "from trainer.step import train_step", "def f():\n  import launch"],
)
def test_a_bare_import_is_found(text):
    assert len(list(bare_imports(Source.planted("tests/planted.py", text)))) == 1


def test_a_relative_import_is_found():
    assert relative_imports(Source.planted("models/planted.py", "from . import x")) == ["models/planted.py:1"]


def test_the_full_name_passes():
    text = "import triptych.kernels\nfrom triptych.models.fsq import x\nimport kernelspec"
    assert list(bare_imports(Source.planted("models/planted.py", text))) == []
