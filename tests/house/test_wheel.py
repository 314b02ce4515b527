"""The wheel holds exactly the tracked modules as `triptych.*`, and lives beside the package index's own `kernels`."""

import contextlib
import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from project_sources import FLOORS, ROOT, package_sources, plain_environment, tracked_files

NAMES = ("kernels", "triptych.kernels")
WHERE = f"import importlib.util as u; print(*(u.find_spec(name).origin for name in {NAMES}))"
PLANTED_TEST = """
import importlib.util

def test_where():
    assert importlib.util.find_spec("kernels").origin == {other!r}
    assert importlib.util.find_spec("triptych.kernels").origin == {ours!r}
"""


def run(*command, cwd, **environment):
    """Standard output; an AssertionError with everything said if the command fails."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=plain_environment(**environment),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pip(*arguments, cwd):
    return run(sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the tracked files, and nothing else."""
    folder = tmp_path_factory.mktemp("checkout")
    for path in tracked_files():
        (folder / path.parent).mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, folder / path)
    return folder


@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory):
    """The wheel, built away from the checkout, which building would litter."""
    source = tmp_path_factory.mktemp("source") / "tree"
    shutil.copytree(checkout, source)
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", source.parent, source, cwd=source)
    (path,) = source.parent.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def other_kernels(tmp_path_factory):
    """The wheel of the package index's `kernels`, or, without network, one that has its name and its top level."""
    folder = tmp_path_factory.mktemp("other")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--timeout", "5", "--retries", "0", "--dest", folder, "kernels"]
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(command, cwd=folder, capture_output=True, timeout=60, check=False)
    return next(folder.glob("*.whl"), None) or stand_in(folder)


def stand_in(folder):
    path = folder / "kernels-0-py3-none-any.whl"
    info = "kernels-0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("kernels/__init__.py", "OTHER = True\n")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: kernels\nVersion: 0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(
            f"{info}/RECORD", f"kernels/__init__.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )
    return path


@pytest.fixture(scope="module")
def site(wheel, other_kernels, tmp_path_factory):
    """Both installed side by side, and what the other package's files were before ours came."""
    folder = tmp_path_factory.mktemp("site")
    pip("install", "--no-deps", "--no-index", "--target", folder, other_kernels, cwd=folder)
    before = digests(folder)
    pip("install", "--no-deps", "--no-index", "--target", folder, wheel, cwd=folder)
    return folder, before


def digests(folder):
    """{file: digest}; byte code is no part of a package."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def modules_of(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    return sorted(name for name in names if not name.startswith("triptych-") or ".dist-info/" not in name)


def test_the_wheel_holds_the_tracked_modules_and_nothing_else(wheel):
    assert modules_of(wheel) == sorted(f"triptych/{source.path}" for source in package_sources())


def test_an_untracked_file_beside_the_modules_would_be_found(wheel, tmp_path):
    copy = shutil.copy(wheel, tmp_path)
    with zipfile.ZipFile(copy, "a") as archive:
        archive.writestr("kernels/__init__.py", "")
    assert set(modules_of(copy)) - set(modules_of(wheel)) == {"kernels/__init__.py"}


def test_nothing_but_modules_is_needed_on_the_floors():
    """Only modules are installed, so nothing else that the code reads may lie beside them: texts and results alone."""
    others = [path for path in tracked_files() if path.parts[0] in FLOORS and path.suffix != ".py"]
    assert [str(path) for path in others if path.suffix != ".md" and "results" not in path.parts] == []


def test_the_other_package_is_untouched(site):
    folder, before = site
    after = digests(folder)
    assert {name: after.get(name) for name in before} == before


def test_both_names_are_found_from_anywhere(site, tmp_path):
    folder, _ = site
    expected = [str(folder / name.replace(".", "/") / "__init__.py") for name in NAMES]
    assert run(sys.executable, "-c", WHERE, cwd=tmp_path, PYTHONPATH=str(folder)).split() == expected


def test_both_names_are_found_by_pytest_in_the_root_of_the_repository(site, checkout):
    """The folder `kernels` lies there; pytest must not take it for the package."""
    folder, _ = site
    other, ours = (str(folder / name.replace(".", "/") / "__init__.py") for name in NAMES)
    planted = checkout / "tests" / "house" / "test_planted_where.py"
    planted.write_text(PLANTED_TEST.format(other=other, ours=ours))
    command = (Path(sys.executable).parent / "pytest", "--import-mode=append", "-q", "-p", "no:cacheprovider", planted)
    assert "1 passed" in run(*command, cwd=checkout, PYTHONPATH=str(folder))


def test_a_python_started_in_the_root_of_the_repository_would_be_fooled(site, checkout):
    """Why the tests start `pytest`, not `python -m pytest`, which puts the current folder first."""
    folder, _ = site
    found = run(sys.executable, "-c", WHERE, cwd=checkout, PYTHONPATH=str(folder)).split()
    assert found[0] == str(checkout / "kernels" / "__init__.py")
