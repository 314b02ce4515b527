"""Which kernel runs a call, and the reasons against the others."""

import importlib.util
from dataclasses import replace

import pytest
import torch

from triptych.kernels.flash_sigmoid import choice
from triptych.kernels.flash_sigmoid.choice import CallFacts, choose_kernel, refusal
from triptych.kernels.flash_sigmoid.problem import Problem

HOPPER = CallFacts(device="cuda", capability=(9, 0), dtype=torch.bfloat16, head_dims=(128, 128), sigmoid="accurate")
ON_CPU = replace(HOPPER, device="cpu", capability=None)


def call(head_dim=8, sigmoid="accurate"):
    query = torch.zeros(1, 4, 2, head_dim)
    problem = Problem(
        scale=1.0,
        bias_value=0.0,
        left=-1,
        right=-1,
        shift=0,
        max_query_length=4,
        max_key_length=4,
        sigmoid=sigmoid,
    )
    return query, query, query, problem


def without_triton(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "triton" else found(name))


@pytest.fixture
def on_hopper(monkeypatch):
    """`on_hopper(**facts)`: calls look as if their tensors lay on such a GPU."""
    pytest.importorskip("triton")
    return lambda **facts: monkeypatch.setattr(choice, "facts_of", lambda *_: replace(HOPPER, **facts))


@pytest.mark.parametrize("head_dims", [(16, 16), (72, 72), (192, 128), (256, 256)])
def test_triton_takes_a_call_on_a_gpu(head_dims):
    pytest.importorskip("triton")
    assert choice.triton_reason(replace(HOPPER, head_dims=head_dims)) is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"capability": (7, 5)}, "needs compute capability 8.0, and the device has 7.5"),
        ({"head_dims": (264, 64)}, "end at 256, and these are 264 and 64"),
        ({"head_dims": (64, 512)}, "end at 256, and these are 64 and 512"),
        ({"device": "mps", "capability": None}, "runs on CUDA, and the tensors are on mps"),
    ],
)
def test_triton_says_why_not(changes, says):
    pytest.importorskip("triton")
    assert says in choice.triton_reason(replace(HOPPER, **changes))


def test_triton_is_refused_on_the_cpu():
    pytest.importorskip("triton")
    assert choice.triton_reason(ON_CPU) == "it runs on CUDA, and the tensors are on cpu"


@pytest.mark.parametrize("kernel", ["triton", "gluon"])
def test_a_machine_without_triton_says_so(kernel, monkeypatch):
    without_triton(monkeypatch)
    assert choice.FACT_REASONS[kernel](HOPPER) == "triton is not installed"


def test_gluon_is_for_hopper_alone():
    pytest.importorskip("triton")
    assert choice.gluon_reason(HOPPER) is None
    assert "9.0, and the device has 10.0" in choice.gluon_reason(replace(HOPPER, capability=(10, 0)))
    assert "runs on CUDA" in choice.gluon_reason(ON_CPU)


def test_gluon_multiplies_no_fp32():
    pytest.importorskip("triton")
    assert "the tensors are float32" in choice.gluon_reason(replace(HOPPER, dtype=torch.float32))


def test_blocked_does_not_imitate_tanh():
    assert choice.blocked_reason(HOPPER) is None
    assert 'sigmoid="tanh"' in choice.blocked_reason(replace(HOPPER, sigmoid="tanh"))


def test_gluon_is_never_chosen_by_itself():
    assert choice.AUTOMATIC == ("triton", "blocked")


def test_a_gpu_gets_triton(on_hopper):
    on_hopper()
    assert choose_kernel(*call()) == "triton"


def test_the_cpu_gets_the_blocked_kernel():
    assert choose_kernel(*call()) == "blocked"


def test_what_triton_cannot_do_goes_to_the_blocked_kernel(on_hopper):
    on_hopper(head_dims=(264, 64))
    assert choose_kernel(*call()) == "blocked"


def test_a_kernel_that_is_given_is_taken(on_hopper):
    on_hopper()
    assert [choose_kernel(*call(), kernel=name) for name in ("triton", "blocked")] == ["triton", "blocked"]


@pytest.mark.parametrize("kernel", ["triton", "gluon"])
def test_a_kernel_that_is_given_and_cannot_run_is_refused(kernel):
    with pytest.raises(ValueError, match=f"^{kernel} cannot run here: .* on cpu; leave `kernel` out"):
        choose_kernel(*call(), kernel=kernel)


def test_where_none_can_run_every_reason_is_told():
    with pytest.raises(ValueError, match=r"^triton cannot run here: .*, and blocked cannot run here: .*; "):
        choose_kernel(*call(sigmoid="tanh"))


def test_an_unknown_kernel_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="no kernel 'cuda'; take one of blocked, triton, gluon"):
        refusal("cuda", *call())


def test_a_compiled_call_may_choose():
    compiled = torch.compile(lambda q: q + len(choose_kernel(q, q, q, call()[3])), backend="aot_eager", fullgraph=True)
    assert compiled(torch.zeros(1, 4, 2, 8)).max() in (len("blocked"), len("triton"))


def test_a_way_to_compute_sigma_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="sigmoid is 'fast'; take one of accurate, tanh"):
        choose_kernel(*call(sigmoid="fast"))
