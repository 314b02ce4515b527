"""The benchmark's own references and error measures, against the oracle and against planted faults."""

import math
import weakref

import pytest
import torch

from triptych.kernels.flash_sigmoid.bench.accuracy import _poison, errors, reference_rows, weight_errors
from triptych.kernels.flash_sigmoid.bench.cases import Shape
from triptych.kernels.flash_sigmoid.bench.contenders import CONTENDERS, Contender, _compiled_flex, contender, draw
from triptych.kernels.flash_sigmoid.problem import CAUSAL, Band
from triptych.kernels.flash_sigmoid.reference import reference_attention

CPU = torch.device("cpu")


def shape_of(causal):
    return Shape(batch=2, length=33, num_heads=3, head_dim=8, causal=causal, dtype="float32")


def oracle(query, key, value, shape):
    band = CAUSAL if shape.causal else Band()
    return reference_attention(
        query, key, value, scale=1 / math.sqrt(shape.head_dim), bias=-math.log(shape.length), band=band
    )


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", ["out", "dq", "dk", "dv"])
def test_sampled_rows_are_the_oracles(causal, name):
    shape = shape_of(causal)
    query, key, value, grad = (x.double() for x in draw(shape, CPU))
    inputs = [x.requires_grad_() for x in (query, key, value)]
    out = oracle(*inputs, shape)
    whole = dict(zip(("dq", "dk", "dv"), torch.autograd.grad(out, inputs, grad), strict=True), out=out)
    at = torch.tensor([0, 7, 32])
    rows = reference_rows(*(x[1, :, 2].detach() for x in (*inputs, grad)), at, causal)
    torch.testing.assert_close(rows[name], whole[name][1, at, 2].detach())


@pytest.mark.parametrize("causal", [False, True])
def test_a_sound_kernel_errs_by_rounding_alone(causal):
    found = errors(contender("blocked"), shape_of(causal), CPU)
    assert max(found.values()) < 2e-6


def planted(function):
    return Contender(name="planted", function="sigmoid", call=function)


def test_a_wrong_bias_shows():
    wrong = planted(lambda q, k, v, shape: oracle(q, k, v, shape).to(q.dtype) * 1.01)
    assert errors(wrong, shape_of(causal=False), CPU)["out"] == pytest.approx(0.01, rel=1e-3)


def test_nan_does_not_pass():
    broken = planted(lambda q, k, v, shape: oracle(q, k, v, shape).to(q.dtype) + math.nan)
    with pytest.raises(ArithmeticError, match="out holds NaN"):
        errors(broken, shape_of(causal=False), CPU)


def test_memory_is_poisoned_block_by_block(monkeypatch):
    """A block that is given back before the next is asked for would be the next."""
    blocks, full_like = [], torch.full_like

    def kept(*arguments):
        blocks.append(weakref.ref(made := full_like(*arguments)))
        assert all(block() is not None for block in blocks)
        return made

    monkeypatch.setattr(torch, "full_like", kept)
    _poison(torch.zeros(3))
    assert len(blocks) == 4 and all(block() is None for block in blocks)


def test_weights_of_a_sound_kernel_are_right_at_a_long_sequence():
    found = weight_errors(contender("blocked"), 131072, torch.float32, CPU)
    assert found["max"] < 1e-5
    assert found["negative"] == 0


def coarse(query, key, value, shape):
    """Sigma with an absolute error of 5e-6, as the hardware's tanh may have it."""
    scores = query[0, :, 0] @ key[0, :, 0].T / math.sqrt(shape.head_dim) - math.log(shape.length)
    return ((scores.sigmoid() - 5e-6) @ value[0, :, 0])[None, :, None]


def test_an_absolute_error_shows_in_small_weights():
    short, long = (weight_errors(planted(coarse), n, torch.float32, CPU) for n in (1024, 131072))
    assert abs(short["row_sum"]) < 0.01
    assert long["row_sum"] < -0.1
    assert short["negative"] < long["negative"]


@pytest.mark.parametrize("name", ["sdpa", "eager sigmoid", "sdpa math"])
@pytest.mark.parametrize("causal", [False, True])
def test_peers_compute_what_they_are_named_for(name, causal):
    shape = shape_of(causal)
    query, key, value, _ = draw(shape, CPU)
    scores = torch.einsum("bshd,bthd->bhst", query, key) / math.sqrt(shape.head_dim)
    visible = torch.ones(33, 33).tril().bool() if causal else torch.ones(33, 33).bool()
    if CONTENDERS[name].function == "softmax":
        weights = scores.masked_fill(~visible, -math.inf).softmax(-1)
    else:
        weights = (scores - math.log(shape.length)).sigmoid() * visible
    want = torch.einsum("bhst,bthd->bshd", weights, value)
    torch.testing.assert_close(CONTENDERS[name].call(query, key, value, shape), want, rtol=1e-4, atol=1e-5)


def test_code_compiled_for_another_shape_is_forgotten(monkeypatch):
    """torch.compile gives up on code that it has compiled eight times."""
    forgotten = []
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr(torch.compiler, "reset", lambda: forgotten.append(True))
    _compiled_flex.cache_clear()
    for causal in (False, False, True):
        _compiled_flex(shape_of(causal), CPU)
    _compiled_flex.cache_clear()
    assert len(forgotten) == 2


@pytest.mark.parametrize("causal", [False, True])
def test_softmax_of_log_sigma_times_its_sum_is_sigma(causal, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    _compiled_flex.cache_clear()
    shape = shape_of(causal)
    query, key, value, _ = draw(shape, CPU)
    got = CONTENDERS["flex sigmoid"].call(query, key, value, shape)
    _compiled_flex.cache_clear()
    torch.testing.assert_close(got.double(), oracle(query, key, value, shape), rtol=1e-4, atol=1e-5)


def test_who_holds_all_scores_is_not_tried_at_length():
    with pytest.raises(NotImplementedError, match="4096"):
        contender("eager sigmoid").require(Shape(batch=1, length=8192, num_heads=1, head_dim=8))


def test_inputs_are_random_and_the_same_each_time():
    first, second = draw(shape_of(causal=False), CPU), draw(shape_of(causal=False), CPU)
    assert all(torch.equal(a, b) and a.std() > 0.5 for a, b in zip(first, second, strict=True))
