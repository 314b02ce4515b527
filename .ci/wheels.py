# ruff: noqa: INP001
"""Download wheels for a machine without network: `python .ci/wheels.py FOLDER --python 3.12`.

Carried is what this project needs and what a machine with torch usually lacks, for Linux on x86-64. Torch, and the
packages that are large and that such a machine usually has (PRESUMED), are not; pip says on that machine which of them
is missing or too old. Versions are those of the environment that runs this: the ones that the tests pass with.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PRESUMED = (
    *("torch", "numpy", "scipy", "scikit-learn", "numba", "matplotlib"),
    *("pillow", "tensorboard", "tokenizers", "safetensors"),
)
BUILT = ("deepspeed",)
"""Published as source alone. Its operators are compiled where they are used, or never: the wheel is for any machine."""
WITH_NEEDS = ("pydantic", "pyyaml", "typer", "rich", "jinja2", "joblib", "pooch")
"""Small down to the last of their needs, of which some fit one version only."""
NEEDS = (
    *("einops", "hjson", "msgpack", "ninja", "packaging", "psutil", "py-cpuinfo", "tqdm"),  # of deepspeed
    "braceexpand",  # of webdataset
    *("audioread", "decorator", "lazy-loader", "soxr"),  # of librosa
    *("cffi", "pycparser"),  # of soundfile
    *("setuptools", "wheel"),  # to install this project itself
)
_GLIBC = range(17, 40)


def requirements(document: dict) -> dict[str, str]:
    """Name to requirement, such as "deepspeed>=0.19.8,<0.20", of pyproject.toml's dependencies."""
    listed = document["project"]["dependencies"]
    return {re.split(r"[^A-Za-z0-9_-]", requirement)[0]: requirement for requirement in listed}


def write_constraints(path: Path) -> None:
    """The versions that are installed here."""
    versions = {found.name: found.version for found in distributions() if found.name not in ("torch", "triptych")}
    path.write_text("".join(f"{name}=={version}\n" for name, version in versions.items()))


def download(folder: Path, names: Iterable[str], python: str, *options: str) -> None:
    """Wheels of these requirements for that Python."""
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in _GLIBC]
    target = ["--only-binary=:all:", f"--python-version={python}", "--implementation=cp", *platforms]
    target += ["--platform=manylinux2014_x86_64", "--platform=manylinux1_x86_64"]
    _pip("download", "--dest", folder, *options, *target, *names)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill the folder and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", default="3.12", help="version of the machine's Python")
    options = parser.parse_args(arguments)
    wanted = requirements(tomllib.loads((ROOT / "pyproject.toml").read_text()))
    alone = [wanted[name] for name in wanted if name not in (*PRESUMED, *BUILT, *WITH_NEEDS)]
    options.folder.mkdir(parents=True, exist_ok=True)
    for old in options.folder.glob("*.whl"):
        old.unlink()
    with tempfile.TemporaryDirectory() as scratch:
        constraints = Path(scratch) / "constraints.txt"
        write_constraints(constraints)
        same = f"--constraint={constraints}"
        _pip("wheel", "--no-deps", same, "--wheel-dir", options.folder, *(wanted[name] for name in BUILT))
        download(options.folder, [*alone, *NEEDS], options.python, "--no-deps", same)
        download(options.folder, [wanted.get(name, name) for name in WITH_NEEDS], options.python, same)
    sizes = [path.stat().st_size for path in options.folder.glob("*.whl")]
    sys.stdout.write(f"{options.folder}: {len(sizes)} wheels, {sum(sizes) / 2**20:.1f} MiB\n")


def _pip(*arguments: object) -> None:
    """Ends the program if pip fails, which has then said why."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *map(str, arguments)]
    if subprocess.run(command, check=False).returncode:
        raise SystemExit(f"pip {arguments[0]} failed; its message is above")


if __name__ == "__main__":
    main()
