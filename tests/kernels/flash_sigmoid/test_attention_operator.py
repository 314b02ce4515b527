"""The attention as an operation of torch's: compilers, autocast, checkpoints, graphs, and inputs without a gradient."""

import copy
import pickle

import pytest
import torch
from attention_cases import Case, leaves, relative_norm, results
from torch.utils.checkpoint import checkpoint

from triptych.kernels.flash_sigmoid import operator
from triptych.kernels.flash_sigmoid.attention import sigmoid_attention
from triptych.kernels.flash_sigmoid.problem import CAUSAL, Band, Segments

FULL = Case(rows=2, queries=12, heads=4, groups=2, value_dim=8)
DOCUMENTS = Segments.packed(
    torch.tensor([0, 5, 5, 9]), torch.tensor([0, 5, 6, 10]), max_query_length=5, max_key_length=5
)
CASES = {
    "full": FULL,
    "causal, bias per head, slopes": Case(
        rows=2, queries=12, heads=4, groups=2, band=CAUSAL, bias=torch.zeros(4), slopes=torch.linspace(0.1, 0.4, 4)
    ),
    "documents": Case(queries=12, band=CAUSAL, segments=DOCUMENTS, bias=torch.zeros(3, 2)),
}


def positions_first(x):
    return x.detach().transpose(0, 1).contiguous().transpose(0, 1).requires_grad_()


def arguments_of_operator(case, monkeypatch):
    """What the operator is given where a compiler traces the call."""
    given = []
    with monkeypatch.context() as patch:
        patch.setattr(operator._Attention, "apply", lambda *inputs: given.extend(inputs))
        bias = case.bias.clone().requires_grad_() if isinstance(case.bias, torch.Tensor) else case.bias
        inputs = [positions_first(x) for x in case.inputs()]
        sigmoid_attention(*inputs, **case.options() | {"bias": bias})
    return given


@pytest.mark.parametrize("name", CASES)
def test_opcheck_of_the_forward_pass(name, monkeypatch):
    arguments = arguments_of_operator(CASES[name], monkeypatch)
    assert set(torch.library.opcheck(torch.ops.triptych.flash_sigmoid.default, arguments).values()) == {"SUCCESS"}


@pytest.mark.parametrize("name", CASES)
def test_opcheck_of_the_backward_pass(name, monkeypatch):
    arguments = [
        x.detach() if isinstance(x, torch.Tensor) else x for x in arguments_of_operator(CASES[name], monkeypatch)
    ]
    grad = torch.randn(*arguments[0].shape[:3], arguments[2].shape[3])
    checks = torch.library.opcheck(torch.ops.triptych.flash_sigmoid_backward.default, (grad, *arguments))
    assert set(checks.values()) == {"SUCCESS"}


@pytest.mark.parametrize("name", CASES)
def test_the_operator_is_the_function(name, monkeypatch):
    """bitwise: what a compiler calls, and what plain tensors go through."""
    case = CASES[name]
    arguments = arguments_of_operator(case, monkeypatch)
    inputs = arguments[:3]
    plain = results(lambda *qkv: sigmoid_attention(*qkv, **case.options()), inputs)
    opaque = results(lambda *qkv: torch.ops.triptych.flash_sigmoid(*qkv, *arguments[3:]), inputs)
    assert [key for key in plain if not torch.equal(plain[key], opaque[key])] == []


def compiled(case, backend, **options):
    torch._dynamo.reset()  # graphs of other cases count against its limit

    def attend(query, key, value):
        return sigmoid_attention(query, key, value, **case.options())

    return torch.compile(attend, fullgraph=True, backend=backend, **options)


@pytest.mark.parametrize("name", CASES)
def test_compiled_whole(name):
    case = CASES[name]
    inputs = [positions_first(x) for x in case.inputs()]
    found = results(compiled(case, "aot_eager"), inputs)
    expected = results(lambda *qkv: sigmoid_attention(*qkv, **case.options()), inputs)
    assert [key for key in expected if not torch.equal(found[key], expected[key])] == []
    assert [key for key in expected if found[key].stride() != expected[key].stride()] == []


def test_compiled_by_inductor():
    inputs = [positions_first(x) for x in FULL.inputs()]
    found = results(compiled(FULL, "inductor"), inputs)
    expected = results(lambda *qkv: sigmoid_attention(*qkv, **FULL.options()), inputs)
    assert max(relative_norm(found[key], expected[key]) for key in expected) < 1e-6


def test_compiled_for_every_length():
    """One graph; the bias and the shift are of the length that comes."""
    case = Case(bias="-log n", band=CAUSAL)
    attend = compiled(case, "aot_eager", dynamic=True)
    for length in (9, 12, 31):
        query, key = torch.randn(1, length, 2, 16), torch.randn(1, 2 * length, 2, 16)
        assert torch.equal(attend(query, key, key), sigmoid_attention(query, key, key, **case.options()))


@pytest.mark.parametrize("first", [True, False], ids=["positions first", "rows first"])
def test_shapes_without_values(first):
    """Fake tensors: what is traced has the strides of what runs."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        x = torch.empty(12, 2, 4, 16).transpose(0, 1) if first else torch.empty(2, 12, 4, 16)
        out = sigmoid_attention(x, x, x[..., :8])
    real = sigmoid_attention(*[torch.empty_strided(x.shape, x.stride()).zero_()] * 2, torch.zeros(2, 12, 4, 8))
    assert (out.shape, out.stride()) == (real.shape, real.stride())


@pytest.mark.parametrize(
    "asking", [(True, False, False), (False, True, False), (False, False, True), (False, True, True)]
)
def test_some_of_the_inputs_ask_for_gradients(asking):
    every = FULL.inputs()
    some = [x.detach().requires_grad_(asks) for x, asks in zip(every, asking, strict=True)]
    sigmoid_attention(*every).sum().backward()
    sigmoid_attention(*some).sum().backward()
    for x, y, asks in zip(some, every, asking, strict=True):
        assert torch.equal(x.grad, y.grad) if asks else x.grad is None


def test_only_the_bias_asks_for_a_gradient():
    bias = torch.zeros(4, requires_grad=True)
    sigmoid_attention(*(x.detach() for x in FULL.inputs()), bias=bias).sum().backward()
    assert torch.count_nonzero(bias.grad) == 4


def test_no_gradient_is_asked_for():
    with torch.no_grad():
        assert not sigmoid_attention(*FULL.inputs()).requires_grad


@pytest.mark.parametrize("reentrant", [True, False])
def test_computed_again_for_the_backward_pass(reentrant):
    def attend(query, key, value):
        return sigmoid_attention(query, key, value, bias=-1.0)

    once, again = leaves(*FULL.inputs()), leaves(*FULL.inputs())
    attend(*once).square().sum().backward()
    checkpoint(attend, *again, use_reentrant=reentrant).square().sum().backward()
    assert all(torch.equal(x.grad, y.grad) for x, y in zip(once, again, strict=True))


def test_an_input_that_changes_before_the_backward_pass_is_noticed():
    query, key, value = FULL.inputs()
    out = sigmoid_attention(query, key, value)
    with torch.no_grad():
        query += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_autocast_narrows_the_inputs_and_nothing_else():
    """As in scaled_dot_product_attention. Products are those of the narrow inputs, with sums and weights in fp32."""
    query, key, value = FULL.inputs()
    narrow = [x.detach().bfloat16() for x in (query, key, value)]
    with torch.autocast("cpu", torch.bfloat16):
        out = sigmoid_attention(query, key.bfloat16(), value)
        again = sigmoid_attention(*narrow)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, sigmoid_attention(*narrow))
    assert torch.equal(again, out)


def test_gradients_through_autocast_are_fp32():
    inputs = FULL.inputs()
    with torch.autocast("cpu", torch.bfloat16):
        out = sigmoid_attention(*inputs)
        grads = torch.autograd.grad(out.float().sum(), inputs)  # within: the backward pass is not narrowed either
    narrow = leaves(*(x.bfloat16() for x in inputs))
    expected = torch.autograd.grad(sigmoid_attention(*narrow).float().sum(), narrow)
    assert [x.dtype for x in grads] == [torch.float32] * 3
    assert all(torch.equal(x.bfloat16(), y) for x, y in zip(grads, expected, strict=True))


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_masks_can_be_copied(way):
    band, segments = way(Band(left=3, right=0)), way(DOCUMENTS)
    assert band == Band(left=3, right=0)
    assert torch.equal(segments.table_N6, DOCUMENTS.table_N6)
    assert segments.max_key_length == DOCUMENTS.max_key_length


def test_a_default_dtype_is_not_asked_for(monkeypatch):
    inputs = Case(bias=torch.zeros(2), slopes=torch.ones(2)).inputs()
    expected = results(lambda *qkv: sigmoid_attention(*qkv, bias=torch.zeros(2)), inputs)
    torch.set_default_dtype(torch.float64)
    try:
        found = results(lambda *qkv: sigmoid_attention(*qkv, bias=torch.zeros(2, dtype=torch.float32)), inputs)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found["out"], expected["out"])


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_a_graph_of_cuda_is_captured(name):
    """Nothing waits for the device: capture would fail. Replayed with other numbers, it computes with them."""
    case = CASES[name]
    moved = {key: x.cuda() if isinstance(x, torch.Tensor) else x for key, x in case.options().items()}
    if case.segments is not None:
        moved["segments"] = Segments(
            table_N6=case.segments.table_N6.cuda(),
            max_query_length=case.segments.max_query_length,
            max_key_length=case.segments.max_key_length,
        )
    inputs = leaves(*(x.cuda().half() for x in case.inputs()))

    def step():
        out = sigmoid_attention(*inputs, **moved)
        return out, *torch.autograd.grad(out.float().sum(), inputs)

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        step()  # compiles
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    with torch.no_grad():
        for x in inputs:
            x.mul_(0.5)
    graph.replay()
    assert all(torch.equal(x, y) for x, y in zip(captured, step(), strict=True))
