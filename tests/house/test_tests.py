"""The tests themselves: each asserts something, sits where its subject sits, and has a name of its own."""

import ast
from collections import Counter
from pathlib import PurePosixPath

import pytest
from project_sources import FLOORS, ROOT, Source, dotted, sources_of_tests, tracked_files

TOPICS = {PurePosixPath(f"tests/{topic}") for topic in ("trainer/layouts", "trainer/resume", "drills")}
"""Tests of a whole floor, or of all, which have no folder of the source to stand beside."""

RAISING = {"pytest.raises", "pytest.warns", "pytest.fail", "raises", "warns"}


def silent_tests(source):
    """`file:line name` of each test function, of a class too, in which nothing can fail on purpose."""
    for node in source.walk(ast.FunctionDef, ast.AsyncFunctionDef):
        if node.name.startswith("test") and not any(is_assertion(inner) for inner in ast.walk(node)):
            yield f"{source.at(node)} {node.name}"


def is_assertion(node):
    """An assert statement, pytest.raises and its kin, or a call of something named assert..."""
    if isinstance(node, ast.Assert):
        return True
    if not isinstance(node, ast.Call):
        return False
    name = dotted(node.func)
    return name in RAISING or name.rpartition(".")[2].lstrip("_").startswith("assert")


def files_with_tests():
    return [path for path in tracked_files() if path.parts[0] == "tests" and path.name.startswith("test_")]


def repeated_names(paths):
    """Without `__init__.py`, pytest knows a test file by its name alone."""
    counts = Counter(path.name for path in paths)
    return sorted(str(path) for path in paths if counts[path.name] > 1)


def misplaced(paths, folders):
    """Test files in a folder that mirrors none of `folders`; tests/house is about the repository itself."""
    allowed = {PurePosixPath("tests/house"), *TOPICS, *(PurePosixPath("tests") / folder for folder in folders)}
    return [str(path) for path in paths if path.parent not in allowed]


def source_folders():
    folders = {path.parent for path in tracked_files() if path.parts[0] in FLOORS}
    return {parent for folder in folders for parent in (folder, *folder.parents) if parent != PurePosixPath(".")}


def test_every_test_asserts():
    assert [line for source in sources_of_tests() for line in silent_tests(source)] == []


def test_no_package_among_the_tests():
    assert sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("__init__.py")) == []


def test_names_of_test_files_are_unique():
    assert repeated_names(files_with_tests()) == []


def test_tests_mirror_the_folders():
    assert misplaced(files_with_tests(), source_folders()) == []


@pytest.mark.parametrize("body", ["pass", "compute()", "np.allclose(a, b)", "x = 1 == 2"])
def test_a_test_without_assertion_is_found(body):
    source = Source.planted("tests/test_planted.py", f"def test_planted():\n    {body}")
    assert list(silent_tests(source)) == ["tests/test_planted.py:1 test_planted"]


@pytest.mark.parametrize(
    "body",
    [
        "assert x",
        "np.testing.assert_allclose(a, b)",
        "torch.testing.assert_close(a, b)",
        "assert_equal_layouts(a)",
        "with pytest.raises(ValueError, match='x'):\n        f()",
    ],
)
def test_a_test_with_an_assertion_passes(body):
    source = Source.planted("tests/test_planted.py", f"class TestIt:\n  def test_planted(self):\n    {body}")
    assert list(silent_tests(source)) == []


def test_a_repeated_name_is_found():
    paths = [PurePosixPath(f"tests/{folder}/test_same.py") for folder in ("models", "trainer")]
    assert repeated_names([*paths, PurePosixPath("tests/models/test_other.py")]) == [str(path) for path in paths]


def test_a_misplaced_test_is_found():
    paths = [PurePosixPath(f"tests/{name}/test_x.py") for name in ("models/fsq", "models/vq", "house", "unit")]
    folders = {PurePosixPath("models"), PurePosixPath("models/fsq")}
    assert misplaced(paths, folders) == ["tests/models/vq/test_x.py", "tests/unit/test_x.py"]
