"""Small on purpose: how long a function or file and how wide a package may grow, and what no file is called."""

import ast
from collections import Counter
from pathlib import PurePosixPath

import pytest
from project_sources import Source, dotted, package_sources, tracked_files, tracked_sources

MAX_FUNCTION_LINES = 80
MAX_TRITON_KERNEL_LINES = 150
MAX_FILE_LINES = 500
MAX_MODULES = 12
BANNED_NAMES = {"util", "utils", "helper", "helpers", "misc", "common"}


def long_functions(source):
    """`file:line name lines` of each function over its ceiling, from `def` to its last line."""
    for node in source.walk(ast.FunctionDef, ast.AsyncFunctionDef):
        num_lines = node.end_lineno - node.lineno + 1
        if num_lines > (MAX_TRITON_KERNEL_LINES if is_triton_kernel(node) else MAX_FUNCTION_LINES):
            yield f"{source.at(node)} {node.name}: {num_lines} lines"


def is_triton_kernel(function):
    """Decorated with `triton.jit` or `jit`, called or not."""
    names = (dotted(d.func if isinstance(d, ast.Call) else d) for d in function.decorator_list)
    return any(name in ("triton.jit", "jit") for name in names)


def long_files(sources):
    for source in sources:
        num_lines = len(source.text.splitlines())
        if num_lines > MAX_FILE_LINES:
            yield f"{source.path}: {num_lines} lines"


def wide_packages(sources):
    """Folders of the floors that hold more modules than MAX_MODULES, `__init__.py` not counted."""
    counts = Counter(source.path.parent for source in sources if source.path.name != "__init__.py")
    return [f"{folder}: {number} modules" for folder, number in counts.items() if number > MAX_MODULES]


def nameless_names(paths):
    """Paths of which a part says nothing about what is inside."""
    return [str(path) for path in paths if BANNED_NAMES & {part.partition(".")[0] for part in path.parts}]


def test_functions_are_short():
    assert [line for source in tracked_sources() for line in long_functions(source)] == []


def test_files_are_short():
    assert list(long_files(tracked_sources())) == []


def test_packages_are_narrow():
    assert wide_packages(package_sources()) == []


def test_files_are_named_for_what_they_hold():
    assert nameless_names(tracked_files()) == []


def function_of(num_lines, decorator=""):
    return Source.planted("models/planted.py", f"{decorator}def planted():\n" + "    pass\n" * (num_lines - 1))


def test_a_function_of_81_lines_is_found():
    assert list(long_functions(function_of(80))) == []
    assert list(long_functions(function_of(81))) == ["models/planted.py:1 planted: 81 lines"]


@pytest.mark.parametrize("decorator", ["@triton.jit\n", "@triton.jit(debug=True)\n", "@jit\n"])
def test_a_triton_kernel_of_151_lines_is_found(decorator):
    assert list(long_functions(function_of(150, decorator))) == []
    assert len(list(long_functions(function_of(151, decorator)))) == 1


def test_a_file_of_501_lines_is_found():
    exact, over = (Source.planted(f"models/planted{n}.py", "x = 1\n" * n) for n in (500, 501))
    assert list(long_files([exact, over])) == ["models/planted501.py: 501 lines"]


def test_a_package_of_13_modules_is_found():
    modules = [Source.planted(f"models/wide/m{i}.py", "") for i in range(13)]
    initial = Source.planted("models/wide/__init__.py", "")
    assert wide_packages([*modules[:12], initial]) == []
    assert wide_packages(modules) == ["models/wide: 13 modules"]


@pytest.mark.parametrize("path", ["models/utils.py", "tests/helpers.py", "trainer/utils/seeding.py"])
def test_a_nameless_name_is_found(path):
    assert nameless_names([PurePosixPath(path), PurePosixPath("trainer/seeding.py")]) == [path]
