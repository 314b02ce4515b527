"""The drop-in takes what each recorded version of Transformer Engine takes, and its defaults mean the same.

signatures.json: version to method to [name] or [name, default], in order, as read from the sources of the wheels of
transformer-engine-cu12.
"""

import inspect
import json
from pathlib import Path

import pytest
import torch

from triptych.models.attention.transformer_engine.arguments import (
    IGNORED_AT_CONSTRUCTION,
    IGNORED_IN_CALLS,
    REFUSED_AT_CONSTRUCTION,
    REFUSED_IN_CALLS,
)
from triptych.models.attention.transformer_engine.dot_product_attention import SigmoidDotProductAttention

RECORDED = json.loads((Path(__file__).parent / "signatures.json").read_text())
VERSIONS = ["2.11.0", "2.18.0", "2.19.0", "2.20.2"]
OWN = {"__init__": {"bias", "sigmoid", "backend"}, "forward": set()}


def defaults(version, method):
    """Name to default of the arguments that have one."""
    return {row[0]: row[1] for row in RECORDED[version][method] if len(row) == 2}


def layers():
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(5, 2, heads, 8, generator=draw) for heads in (4, 2, 2)]


def test_the_versions_are_recorded():
    assert list(RECORDED) == VERSIONS
    assert all(set(methods) == {"__init__", "forward", "set_context_parallel_group"} for methods in RECORDED.values())


@pytest.mark.parametrize("version", VERSIONS)
def test_the_constructor_takes_every_argument_and_its_default(version):
    given = SigmoidDotProductAttention(4, 8, **(defaults(version, "__init__") | {"num_gqa_groups": 2}))
    bare = SigmoidDotProductAttention(4, 8, 2)
    assert torch.equal(given(*layers()), bare(*layers()))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_call_takes_every_argument_and_its_default(version):
    module = SigmoidDotProductAttention(4, 8, 2)
    named = {
        name: value for name, value in defaults(version, "forward").items() if not name.endswith(("_layer", "_mask"))
    }
    packed = {name: None for name in ("qkv_layer", "kv_layer") if name in defaults(version, "forward")}
    assert torch.equal(module(*layers(), None, **named, **packed), module(*layers()))


@pytest.mark.parametrize("version", VERSIONS)
def test_layers_may_be_given_by_name(version):
    names = [row[0] for row in RECORDED[version]["forward"][:3]]
    module = SigmoidDotProductAttention(4, 8, 2)
    assert torch.equal(module(**dict(zip(names, layers(), strict=True))), module(*layers()))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("method", ["__init__", "forward"])
def test_positions_are_the_versions_own(version, method):
    """Where versions agree, by position; the rest by name alone, so that a shifted position cannot be misread."""
    parameters = inspect.signature(getattr(SigmoidDotProductAttention, method)).parameters.values()
    ours = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD][1:]
    assert ours == [row[0] for row in RECORDED[version][method]][: len(ours)]
    assert len(ours) >= (4 if method == "forward" else 2)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("method", ["__init__", "forward"])
def test_defaults_are_the_versions_own(version, method):
    ours = inspect.signature(getattr(SigmoidDotProductAttention, method)).parameters
    refused, ignored = {
        "__init__": (REFUSED_AT_CONSTRUCTION, IGNORED_AT_CONSTRUCTION),
        "forward": (REFUSED_IN_CALLS, IGNORED_IN_CALLS),
    }[method]
    for name, default in defaults(version, method).items():
        if name in ours:
            assert ours[name].default == default, name
        else:
            assert name in ignored or default in refused[name][0], name


def test_nothing_is_taken_that_no_version_has():
    for method, own in OWN.items():
        known = {row[0] for version in VERSIONS for row in RECORDED[version][method]} | own
        parameters = inspect.signature(getattr(SigmoidDotProductAttention, method)).parameters
        assert set(parameters) - known == {"self", "others"}
    in_calls = {row[0] for version in VERSIONS for row in RECORDED[version]["forward"]}
    assert (set(REFUSED_IN_CALLS) | IGNORED_IN_CALLS) <= in_calls


@pytest.mark.parametrize("version", VERSIONS)
def test_the_context_parallel_group_is_set_as_in_each_version(version):
    ours = list(inspect.signature(SigmoidDotProductAttention.set_context_parallel_group).parameters)[1:]
    recorded = [row[0] for row in RECORDED[version]["set_context_parallel_group"]]
    assert ours[: len(recorded)] == recorded
