"""What does not fit is refused in one line that names it."""

import pytest
import torch

from triptych.kernels.flash_sigmoid.attention import sigmoid_attention
from triptych.kernels.flash_sigmoid.problem import Band, Segments

TABLE = torch.tensor([[0, 0, 5, 0, 5, 0]], dtype=torch.int32)


def x(*shape, dtype=torch.float32):
    return torch.zeros(shape or (1, 5, 2, 8), dtype=dtype)


def refusal(query=None, key=None, value=None, **options):
    """What is said of a call that is sound but for the given."""
    given = [x() if y is None else y for y in (query, key, value)]
    with pytest.raises(ValueError, match=";") as caught:
        sigmoid_attention(*given, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["query", "key", "value"])
def test_dimensions(name):
    assert refusal(**{name: x(5, 2, 8)}).startswith(f"{name} has 3 dimensions")


@pytest.mark.parametrize("dtype", [torch.float64, torch.int32, torch.complex64], ids=str)
def test_dtypes(dtype):
    assert refusal(*[x(dtype=dtype)] * 3).startswith(f"query is {dtype}")


def test_mixed_dtypes():
    assert "value is torch.float16 on cpu, query torch.float32" in refusal(value=x(dtype=torch.float16))


def test_devices():
    assert "key is torch.float32 on meta" in refusal(key=x().to("meta"))


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        (((1, 5, 2, 8), (1, 6, 2, 8), (1, 5, 2, 8)), "key [1, 6, 2, 8] and value [1, 5, 2, 8]"),
        (((1, 5, 2, 8), (1, 5, 1, 8), (1, 5, 2, 8)), "key [1, 5, 1, 8] and value [1, 5, 2, 8]"),
        (((2, 5, 2, 8), (1, 5, 2, 8), (1, 5, 2, 8)), "query [2, 5, 2, 8] and key [1, 5, 2, 8]"),
        (((1, 5, 2, 4), (1, 5, 2, 8), (1, 5, 2, 8)), "query [1, 5, 2, 4] and key [1, 5, 2, 8]"),
        (((1, 5, 3, 8), (1, 5, 2, 8), (1, 5, 2, 8)), "query has 3 heads and key 2"),
        (((1, 5, 2, 0), (1, 5, 2, 0), (1, 5, 2, 8)), "query is [1, 5, 2, 0]"),
        (((1, 5, 2, 8), (1, 5, 2, 8), (1, 5, 2, 0)), "value is [1, 5, 2, 0]"),
        (((1, 5, 2, 8), (1, 5, 0, 8), (1, 5, 0, 8)), "key is [1, 5, 0, 8]"),
    ],
)
def test_shapes(shapes, says):
    assert refusal(*(x(*shape) for shape in shapes)).startswith(says)


@pytest.mark.parametrize("shape", [(3,), (2, 2), (1, 1, 2)])
@pytest.mark.parametrize("name", ["bias", "slopes"])
def test_shapes_of_numbers_per_head(name, shape):
    assert refusal(**{name: x(*shape)}).startswith(f"{name} is torch.float32 {list(shape)}")


@pytest.mark.parametrize("name", ["bias", "slopes"])
def test_numbers_per_head_elsewhere(name):
    assert refusal(**{name: x(2).to("meta")}).startswith(f"{name} is on meta")


def test_slopes_that_learn():
    assert refusal(slopes=torch.zeros(2, requires_grad=True)).startswith("slopes ask for a gradient")


@pytest.mark.parametrize("bias", ["-log m", float("nan"), float("-inf")])
def test_biases(bias):
    assert refusal(bias=bias).startswith("bias is ")


@pytest.mark.parametrize("scale", [float("inf"), float("nan"), torch.tensor(0.5)])
def test_scales(scale):
    assert refusal(scale=scale).startswith("scale is ")


@pytest.mark.parametrize("name", ["left", "right"])
def test_bands(name):
    with pytest.raises(ValueError, match=f"band.{name} is -2; give a number"):
        Band(**{name: -2})


def test_an_unknown_kernel():
    assert refusal(kernel="cuda").startswith("there is no kernel 'cuda'")


@pytest.mark.parametrize(
    "table", [TABLE[0], TABLE.long(), TABLE[:, :5], TABLE.float()], ids=["one", "int64", "five", "float"]
)
def test_tables(table):
    with pytest.raises(ValueError, match=r"segments.table_N6 is torch\.\w+ \[.*\]; give int32 \[segments, 6\]"):
        Segments(table_N6=table, max_query_length=5, max_key_length=5)


@pytest.mark.parametrize("bound", [-1, 2.5, torch.tensor(5)], ids=str)
@pytest.mark.parametrize("name", ["max_query_length", "max_key_length"])
def test_bounds_of_segments(name, bound):
    bounds = {"max_query_length": 5, "max_key_length": 5, name: bound}
    with pytest.raises(ValueError, match=f"segments.{name} is .*; give a number of positions"):
        Segments(table_N6=TABLE, **bounds)


@pytest.mark.parametrize("entry", [(0, 1), (0, -1), (1, -1), (2, 6), (3, 1), (4, 6), (4, -2)])
def test_segments_that_do_not_fit(entry):
    """On the CPU's path the table is read, and looked at."""
    table = TABLE.clone()
    table[0, entry[0]] = entry[1]
    segments = Segments(table_N6=table, max_query_length=6, max_key_length=6)
    assert refusal(segments=segments).startswith("segment 0 is row ")


def test_segments_elsewhere():
    segments = Segments(table_N6=TABLE.to("meta"), max_query_length=5, max_key_length=5)
    assert refusal(segments=segments).startswith("segments are on meta")


def test_running_sums_that_differ():
    with pytest.raises(ValueError, match=r"cu_seqlens of queries \[2\] and keys \[3\] differ; give"):
        Segments.packed(torch.tensor([0, 5]), torch.tensor([0, 2, 5]), max_query_length=5, max_key_length=5)


def test_lengths_that_differ():
    with pytest.raises(ValueError, match=r"lengths of queries \[2\] and keys \[1\] differ; give"):
        Segments.of_lengths(torch.tensor([4, 5]), torch.tensor([5]), max_query_length=5, max_key_length=5)


def test_gradients_of_gradients():
    inputs = [torch.randn(1, 5, 2, 8, requires_grad=True) for _ in range(3)]
    (grad,) = torch.autograd.grad(sigmoid_attention(*inputs).sum(), inputs[0], create_graph=True)
    with pytest.raises(ValueError, match="gradients of gradients of sigmoid attention are not computed; "):
        grad.sum().backward()
