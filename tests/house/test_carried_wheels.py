"""What `make wheels` carries is whole: every dependency, and what those need in turn, is carried or presumed."""

import importlib.util
import re
import tomllib
from importlib.metadata import requires

import pytest
from packaging.requirements import Requirement
from project_sources import ROOT

TARGET = {"python_version": "3.12", "python_full_version": "3.12.3", "extra": ""}


@pytest.fixture(scope="module")
def wheels():
    spec = importlib.util.spec_from_file_location("wheels", ROOT / ".ci" / "wheels.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def dependencies(wheels):
    return wheels.requirements(tomllib.loads((ROOT / "pyproject.toml").read_text()))


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def missing(carried, presumed, whole):
    """`package: need` of each that is neither carried nor presumed; `whole` are carried with all of their needs."""
    known = {canonical(name) for name in (*carried, *presumed, *whole)}
    for package in carried:
        for requirement in map(Requirement, requires(package) or ()):
            wanted = requirement.marker is None or requirement.marker.evaluate(TARGET)
            if wanted and canonical(requirement.name) not in known | {"typing-extensions"}:
                yield f"{package}: {requirement.name}"


def test_every_dependency_is_carried_or_presumed(wheels, dependencies):
    alone = set(dependencies) - set(wheels.PRESUMED) - set(wheels.WITH_NEEDS)
    carried = [*alone, *(name for name in wheels.NEEDS if name != "wheel")]
    assert list(missing(carried, wheels.PRESUMED, wheels.WITH_NEEDS)) == []


def test_a_need_that_is_not_carried_is_found(wheels):
    assert list(missing(["webdataset"], wheels.PRESUMED, ["pyyaml"])) == ["webdataset: braceexpand"]


def test_ranges_are_those_of_the_project(dependencies):
    assert dependencies["deepspeed"].startswith("deepspeed>=")
    assert dependencies["megatron-core"] == "megatron-core==0.16.1"


def test_every_name_with_a_special_treatment_is_a_dependency(wheels, dependencies):
    indirect = {"scipy", "numba", "joblib", "pooch"}
    assert {*wheels.PRESUMED, *wheels.BUILT, *wheels.WITH_NEEDS} - set(dependencies) == indirect
