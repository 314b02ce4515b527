"""The choice among backends: order, names, reasons, what is logged."""

import logging
from dataclasses import replace

import pytest
import torch

from triptych.models.attention.registry.backends import REGISTRY
from triptych.models.attention.registry.registry import Backend, Registry
from triptych.models.attention.registry.request import AttentionRequest

REQUEST = AttentionRequest(
    function="sigmoid", device="cuda", dtype=torch.bfloat16, head_dims=(64, 64), num_heads=8, num_groups=2
)


def backend(name, reason=None, **more):
    return Backend(name=name, function="sigmoid", refusal=lambda request: reason, attend=lambda *_: None, **more)


def test_the_first_that_can_is_chosen_and_the_others_say_why_not():
    registry = Registry(
        [backend("fast", "no such device"), backend("middle"), backend("slow"), backend("new", automatic=False)]
    )
    choice = registry.choose(REQUEST)
    assert choice.backend.name == "middle"
    assert choice.reasons == {
        "fast": "no such device",
        "slow": "it can, but middle comes first",
        "new": "it can, but only if it is asked for",
    }


def test_one_that_is_named_is_taken():
    registry = Registry([backend("fast"), backend("new", automatic=False)])
    choice = registry.choose(REQUEST, "new")
    assert (choice.backend.name, choice.reasons) == ("new", {"fast": "it can, but new is asked for"})


def test_auto_is_no_name():
    registry = Registry([backend("new", automatic=False), backend("fast")])
    assert registry.choose(REQUEST, "auto").backend.name == "fast"


def test_one_that_is_named_and_cannot_is_refused_with_its_reason():
    registry = Registry([backend("fast", "no such device"), backend("slow")])
    with pytest.raises(ValueError, match=r"^fast cannot run this sigmoid attention: no such device; take auto"):
        registry.choose(REQUEST, "fast")


def test_where_none_can_every_reason_is_told():
    registry = Registry([backend("fast", "no device"), backend("slow", "no memory")])
    with pytest.raises(ValueError, match=r"fast: no device, slow: no memory; "):
        registry.choose(REQUEST)


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="no backend 'fats'; take auto or one of fast, slow"):
        Registry([backend("fast"), backend("slow")]).choose(REQUEST, "fats")


def test_functions_do_not_see_each_other():
    softmax = replace(backend("other"), function="softmax")
    registry = Registry([softmax, backend("fast")])
    assert list(registry.reasons(REQUEST)) == ["fast"]
    assert registry.choose(replace(REQUEST, function="softmax")).backend is softmax


def test_a_third_partys_backend_comes_last_or_where_it_says():
    registry = Registry([backend("fast"), backend("slow")])
    registry.register(backend("last"))
    registry.register(backend("second"), before="slow")
    assert [each.name for each in registry.backends("sigmoid")] == ["fast", "second", "slow", "last"]


def test_one_that_is_registered_later_is_asked_too():
    registry = Registry([backend("slow")])
    assert registry.choose(REQUEST).backend.name == "slow"
    registry.register(backend("fast"), before="slow")
    assert registry.choose(REQUEST).backend.name == "fast"


@pytest.mark.parametrize("name", ["fast", "auto"])
def test_a_name_that_is_taken_is_refused(name):
    with pytest.raises(ValueError, match="give it another name"):
        Registry([backend("fast"), backend(name)])


def test_the_choice_is_logged_once(caplog):
    registry = Registry([backend("fast", "no such device"), backend("slow")])
    with caplog.at_level(logging.DEBUG, logger="triptych.attention"):
        for _ in range(2):
            registry.choose(REQUEST)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "Running sigmoid attention with backend slow"),
        ("DEBUG", "Not running fast: no such device"),
    ]


def test_this_processs_backends():
    names = {function: [each.name for each in REGISTRY.backends(function)] for function in ("softmax", "sigmoid")}
    assert names == {"softmax": ["varlen", "sdpa"], "sigmoid": ["triton", "blocked", "gluon"]}
