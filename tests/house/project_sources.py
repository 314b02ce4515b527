"""What the checks of this folder look at: the repository's own tracked files."""

import ast
import os
import subprocess
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
FLOORS = ("launch", "configs", "trainer", "models", "kernels", "data_pipelines")


@dataclass(frozen=True)
class Source:
    """One Python file. `path` is relative to the repository; `text` need not be on disk: a fault can be planted."""

    path: PurePosixPath
    text: str

    @classmethod
    def planted(cls, path, text):
        return cls(PurePosixPath(path), text)

    @cached_property
    def tree(self):
        return ast.parse(self.text, filename=str(self.path))

    @property
    def floor(self):
        """The floor it is on, or None (tests, setup.py)."""
        return self.path.parts[0] if self.path.parts[0] in FLOORS else None

    def walk(self, *kinds):
        """Every node of these kinds."""
        return (node for node in ast.walk(self.tree) if isinstance(node, kinds))

    def at(self, node):
        return f"{self.path}:{node.lineno}"


@cache
def tracked_files():
    """Paths, relative, of what git tracks and is still there."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return tuple(PurePosixPath(name) for name in listed.split("\0") if name and (ROOT / name).is_file())


@cache
def tracked_sources():
    """Every tracked Python file."""
    return tuple(Source(path, (ROOT / path).read_text()) for path in tracked_files() if path.suffix == ".py")


def plain_environment(**changes):
    """This environment, for a child whose lines are not to count as covered: it only imports, or tests a copy."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE_", "COV_CORE_"))}
    return {**kept, **changes}


def package_sources():
    """The Python files of the six floors."""
    return [source for source in tracked_sources() if source.floor]


def sources_of_tests():
    """The Python files under tests/."""
    return [source for source in tracked_sources() if source.path.parts[0] == "tests"]


def dotted(node):
    """`a.b.c` of a name or attribute, else an empty string."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (head := dotted(node.value)):
        return f"{head}.{node.attr}"
    return ""
