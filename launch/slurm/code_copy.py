"""A copy of the code as it stands, importable by itself: what a run was started with, whatever the checkout does."""

import shutil
import subprocess
from pathlib import Path

PACKAGE = "triptych"
COMMIT = "COMMIT"
MAX_BYTES = 1 << 20
"""A larger file is a picture or a table of results, which nothing imports."""

_SKIPPED = ("results", "__pycache__")


def copy_code(sources: Path, target: Path, commit: str) -> None:
    """Copy every folder that is a package under `sources`, as its files are now, to `target`/triptych.

    With `target` first on PYTHONPATH, `import triptych` is the copy and never the installed one. commit: kept beside
    it. It appears at once or not at all; OSError if the disk refuses.
    """
    partial = target.with_name(f".partial-{target.name}")
    shutil.rmtree(partial, ignore_errors=True)
    root = partial / PACKAGE
    for path in _files(sources):
        place = root / path.relative_to(sources)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    # A regular package, not a namespace: else Python would also look where the checkout is installed.
    (root / "__init__.py").write_text('"""A copy of the code that a run was started with."""\n')
    (root / COMMIT).write_text(f"{commit}\n")
    partial.rename(target)


def copied_commit(sources: Path) -> str | None:
    """The commit that a copy was made of; None where this is no copy."""
    try:
        return (sources / COMMIT).read_text().strip()
    except FileNotFoundError:
        return None


def _files(sources: Path) -> list[Path]:
    """The packages' files: those that git knows or would add, or all of them where there is no git."""
    folders = sorted(path.parent.name for path in sources.glob("*/__init__.py") if path.parent.name != "tests")
    listed = _listed_by_git(sources, folders)
    paths = listed if listed is not None else [path for folder in folders for path in (sources / folder).rglob("*")]
    return [
        path
        for path in paths
        if path.is_file()
        and not set(path.relative_to(sources).parts) & set(_SKIPPED)
        and path.stat().st_size <= MAX_BYTES
    ]


def _listed_by_git(sources: Path, folders: list[str]) -> list[Path] | None:
    if not (sources / ".git").exists():
        return None
    listing = ["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *folders]
    try:
        done = subprocess.run(["git", "-C", str(sources), *listing], capture_output=True, check=False)
    except FileNotFoundError:
        return None
    if done.returncode:
        return None
    return [sources / name for name in dict.fromkeys(done.stdout.decode().split("\0")) if name]
