"""A config class is a dataclass with kw_only, slots and frozen: named in full, no misspelt field, never changed."""

import ast

import pytest
from project_sources import Source, dotted, package_sources

REQUIRED = ("kw_only", "slots", "frozen")


def loose_configs(source):
    """`file:line name: what is missing` of each class named ...Config, and of each dataclass on the configs floor."""
    for node in source.walk(ast.ClassDef):
        decorator = next(
            (d for d in node.decorator_list if decorator_name(d) in ("dataclass", "dataclasses.dataclass")), None
        )
        if not (node.name.endswith("Config") or (source.floor == "configs" and decorator)):
            continue
        missing = [flag for flag in REQUIRED if flag not in flags(decorator)] if decorator else ["@dataclass"]
        if missing:
            yield f"{source.at(node)} {node.name}: lacks {', '.join(missing)}"


def decorator_name(decorator):
    return dotted(decorator.func if isinstance(decorator, ast.Call) else decorator)


def flags(decorator):
    """Names of the arguments that are literally True."""
    if not isinstance(decorator, ast.Call):
        return set()
    return {k.arg for k in decorator.keywords if isinstance(k.value, ast.Constant) and k.value.value is True}


def test_configs_are_frozen():
    assert [line for source in package_sources() for line in loose_configs(source)] == []


@pytest.mark.parametrize(
    ("path", "text", "missing"),
    [
        ("models/planted.py", "@dataclass(kw_only=True, slots=True)\nclass AConfig: ...", "frozen"),
        ("models/planted.py", "@dataclasses.dataclass(slots=True, frozen=True)\nclass AConfig: ...", "kw_only"),
        ("models/planted.py", "@dataclass(kw_only=True, slots=False, frozen=True)\nclass AConfig: ...", "slots"),
        ("models/planted.py", "class AConfig: ...", "@dataclass"),
        ("configs/planted.py", "@dataclass\nclass Run: ...", "kw_only, slots, frozen"),
    ],
)
def test_a_loose_config_is_found(path, text, missing):
    (found,) = loose_configs(Source.planted(path, text))
    assert found.endswith(f": lacks {missing}")


def test_a_frozen_config_and_a_plain_class_pass():
    text = "@dataclass(kw_only=True, slots=True, frozen=True)\nclass AConfig: ...\nclass Model: ..."
    assert list(loose_configs(Source.planted("models/planted.py", text))) == []
