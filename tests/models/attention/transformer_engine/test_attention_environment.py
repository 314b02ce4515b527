"""The environment variables of Transformer Engine's users."""

import logging

import pytest
import torch

from triptych.models.attention.registry import registry
from triptych.models.attention.registry.backends import REGISTRY
from triptych.models.attention.registry.registry import Backend
from triptych.models.attention.transformer_engine import environment
from triptych.models.attention.transformer_engine.dot_product_attention import SigmoidDotProductAttention
from triptych.models.attention.transformer_engine.environment import (
    VARIABLES,
    follow_debug_level,
    read_environment,
    variables_that_are_set,
)


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    """None of the variables is set."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def asked(monkeypatch):
    """Requests of the modules of a test, by a backend that takes them all."""
    requests = []

    def refusal(request):
        requests.append(request)

    backend = Backend(
        name="listening", function="sigmoid", refusal=refusal, attend=lambda query, *_: query, automatic=False
    )
    monkeypatch.setattr(REGISTRY, "_backends", [*REGISTRY.backends("sigmoid"), backend])
    monkeypatch.setattr(REGISTRY, "_choices", {})
    return requests


def call(module):
    return module(*(torch.zeros(3, 1, 2, 4) for _ in range(3)))


def test_nothing_set_is_softmax_and_auto():
    found = read_environment()
    assert (found.function, found.backend, found.sigmoid) == ("softmax", "auto", "accurate")
    assert (found.bias, found.deterministic) == ("-log n", False)
    assert variables_that_are_set() == {}


def test_everything_set(monkeypatch):
    given = {
        "NVTE_SIGMOID_ATTN": "1",
        "NVTE_SIGMOID_ATTN_BACKEND": "blocked",
        "NVTE_SIGMOID_ATTN_FAST_TANH": "1",
        "NVTE_SIGMOID_ATTN_BIAS": "-7.5",
        "NVTE_ALLOW_NONDETERMINISTIC_ALGO": "0",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    found = read_environment()
    assert (found.function, found.backend, found.sigmoid) == ("sigmoid", "blocked", "tanh")
    assert (found.bias, found.deterministic) == (-7.5, True)
    assert variables_that_are_set() == given


@pytest.mark.parametrize(
    "name", ["NVTE_SIGMOID_ATTN", "NVTE_SIGMOID_ATTN_FAST_TANH", "NVTE_ALLOW_NONDETERMINISTIC_ALGO"]
)
def test_a_switch_is_0_or_1(name, monkeypatch):
    monkeypatch.setenv(name, "yes")
    with pytest.raises(ValueError, match=f"^{name} is 'yes'; set it to 0 or 1$"):
        read_environment()


def test_a_bias_is_a_number_or_a_name(monkeypatch):
    monkeypatch.setenv("NVTE_SIGMOID_ATTN_BIAS", "log")
    with pytest.raises(ValueError, match=r"^NVTE_SIGMOID_ATTN_BIAS is 'log'; set it to a number"):
        read_environment()


def test_the_backend_of_a_call_is_the_environments(asked, monkeypatch):
    module = SigmoidDotProductAttention(2, 4)
    monkeypatch.setenv("NVTE_SIGMOID_ATTN_BACKEND", "listening")
    call(module)
    assert len(asked) == 1


def test_a_backend_that_is_given_comes_before_the_environments(asked, monkeypatch):
    monkeypatch.setenv("NVTE_SIGMOID_ATTN_BACKEND", "blocked")
    call(SigmoidDotProductAttention(2, 4, backend="listening"))
    assert len(asked) == 1


def test_an_unknown_backend_is_refused(monkeypatch):
    monkeypatch.setenv("NVTE_SIGMOID_ATTN_BACKEND", "flash")
    with pytest.raises(ValueError, match="no backend 'flash'; take auto or one of triton, blocked, gluon"):
        call(SigmoidDotProductAttention(2, 4))


def test_the_fast_sigmoid_is_asked_for(asked, monkeypatch):
    monkeypatch.setenv("NVTE_SIGMOID_ATTN_FAST_TANH", "1")
    call(SigmoidDotProductAttention(2, 4, backend="listening"))
    call(SigmoidDotProductAttention(2, 4, backend="listening", sigmoid="accurate"))
    assert [request.sigmoid for request in asked] == ["tanh", "accurate"]


def test_determinism_is_asked_for(asked, monkeypatch):
    monkeypatch.setenv("NVTE_ALLOW_NONDETERMINISTIC_ALGO", "0")
    call(SigmoidDotProductAttention(2, 4, backend="listening"))
    assert [request.deterministic for request in asked] == [True]


@pytest.fixture
def logger(monkeypatch):
    """In the place of the choice's: one that nobody listens to yet."""
    fresh = logging.Logger("triptych.attention", logging.ERROR)
    for module in (environment, registry):
        monkeypatch.setattr(module, "logger", fresh)
    return fresh


@pytest.mark.parametrize(("level", "expected"), [("0", "WARNING"), ("1", "INFO"), ("2", "DEBUG"), ("7", "DEBUG")])
def test_the_level_of_debugging_is_the_loggers(level, expected, logger, monkeypatch):
    monkeypatch.setenv("NVTE_DEBUG", "1")
    monkeypatch.setenv("NVTE_DEBUG_LEVEL", level)
    follow_debug_level()
    assert logging.getLevelName(logger.level) == expected
    assert len(logger.handlers) == 1


def test_without_debugging_the_logger_is_left_alone(logger, monkeypatch):
    monkeypatch.setenv("NVTE_DEBUG_LEVEL", "2")
    follow_debug_level()
    assert (logger.level, logger.handlers) == (logging.ERROR, [])


def test_a_level_that_is_no_number_is_refused(monkeypatch):
    monkeypatch.setenv("NVTE_DEBUG", "1")
    monkeypatch.setenv("NVTE_DEBUG_LEVEL", "all")
    with pytest.raises(ValueError, match=r"^NVTE_DEBUG_LEVEL is 'all'; set it to 0, 1 or 2$"):
        SigmoidDotProductAttention(2, 4)


def test_reasons_are_written_to_stderr(logger, monkeypatch, capsys):
    monkeypatch.setattr(REGISTRY, "_choices", {})
    monkeypatch.setenv("NVTE_DEBUG", "1")
    monkeypatch.setenv("NVTE_DEBUG_LEVEL", "2")
    call(SigmoidDotProductAttention(2, 4, backend="blocked"))
    written = capsys.readouterr().err
    assert "[INFO     | triptych.attention ]: Running sigmoid attention with backend blocked" in written
    assert "Not running gluon: " in written
