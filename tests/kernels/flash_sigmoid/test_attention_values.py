"""O and every gradient against the oracle, over shapes, masks, biases and types."""

from dataclasses import replace

import pytest
import torch
from attention_cases import Case, assert_right

from triptych.kernels.flash_sigmoid.problem import CAUSAL, Band, Segments

pytest_plugins = ["attention_kernels"]

LENGTHS = (1, 2, 15, 16, 17, 63, 64, 65, 97, 127, 128, 129, 200, 257, 1023, 1025)
PAIRS = ((113, 203), (128, 217), (108, 256), (256, 512), (512, 256), (203, 113))
BANDS = {
    "full": Band(),
    "causal": CAUSAL,
    "causal, top left": Band(right=0, alignment="top_left"),
    "itself": Band(left=0, right=0),
    "one before": Band(left=1, right=0),
    "window": Band(left=7, right=3),
    "window, top left": Band(left=7, right=3, alignment="top_left"),
    "left only": Band(left=5),
    "right only": Band(right=6),
    "wider than the row": Band(left=10_000, right=10_000),
}
HALF = (torch.float16, torch.bfloat16)

SMALL = {
    "full": Case(),
    "groups": Case(heads=6, groups=2, queries=9),
    "one group": Case(heads=3, groups=1, queries=9, band=CAUSAL),
    "wide values": Case(head_dim=24, value_dim=40),
    "causal": Case(queries=33, band=CAUSAL),
    "more keys": Case(queries=9, keys=40, band=CAUSAL),
    "more queries": Case(queries=40, keys=9, band=CAUSAL),
    "window, top left": Case(queries=40, keys=20, band=BANDS["window, top left"]),
    "bias per head": Case(bias=torch.tensor([-3.0, 1.0])),
    "bias per row and head": Case(rows=2, bias=torch.tensor([[-3.0, 1.0], [0.0, -1.0]]), band=CAUSAL),
    "ALiBi": Case(slopes=torch.tensor([0.5, 0.02])),
    "ALiBi per row, causal": Case(rows=2, slopes=torch.tensor([[0.5, 0.02], [0.1, 0.3]]), band=CAUSAL),
    "-log n": Case(keys=37, bias="-log n"),
    "scale": Case(scale=0.7),
    "documents": Case(
        queries=40,
        bias=torch.tensor([[-1.0, 0.5], [2.0, 0.0], [-2.0, -3.0]]),
        segments=Segments.packed(
            torch.tensor([0, 7, 7, 30]), torch.tensor([0, 9, 12, 33]), max_query_length=23, max_key_length=21
        ),
        band=CAUSAL,
    ),
}


@pytest.mark.parametrize("name", SMALL)
def test_small_cases(attention, name):
    assert_right(SMALL[name], attention)


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("name", ["groups", "bias per head", "documents"])
def test_small_cases_in_half_precision(attention, name, dtype):
    assert_right(replace(SMALL[name], dtype=dtype), attention)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("band", ["full", "causal"])
def test_lengths(length, band):
    assert_right(Case(queries=length, band=BANDS[band], bias="-log n"))


@pytest.mark.parametrize("band", BANDS)
@pytest.mark.parametrize(("queries", "keys"), PAIRS)
def test_bands(queries, keys, band):
    assert_right(Case(queries=queries, keys=keys, band=BANDS[band]))


@pytest.mark.parametrize("band", ["full", "causal", "window"])
def test_more_than_a_block_of_everything(band):
    assert_right(Case(rows=2, queries=300, keys=1100, heads=6, groups=3, head_dim=8, band=BANDS[band]))


@pytest.mark.parametrize(
    ("head_dim", "value_dim"),
    [(d, d) for d in (1, 32, 40, 59, 64, 72, 80, 96, 111, 128, 160, 192, 256)] + [(192, 128), (64, 128), (16, 1)],
)
def test_head_dimensions(head_dim, value_dim):
    assert_right(Case(head_dim=head_dim, value_dim=value_dim, queries=30, band=CAUSAL))


@pytest.mark.parametrize(("heads", "groups"), [(1, 1), (3, 1), (3, 3), (9, 3), (6, 1), (12, 2)])
def test_groups_of_heads(heads, groups):
    assert_right(Case(heads=heads, groups=groups, rows=2, queries=40, slopes=torch.linspace(0.01, 0.3, heads)))


@pytest.mark.parametrize("bias", [-30.0, -8.3, 0.0, 5.0, 1, "-log n", "-log n of each"], ids=str)
def test_biases(bias):
    assert_right(Case(rows=2, queries=50, bias=bias))


@pytest.mark.parametrize("shape", [(), (1,), (4,), (3, 1), (1, 4), (3, 4)], ids=str)
def test_learnable_biases(shape):
    assert_right(Case(rows=3, heads=4, groups=2, queries=30, bias=torch.randn(shape) - 2, band=CAUSAL))


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("band", ["full", "causal", "window"])
def test_half_precision(dtype, band):
    assert_right(Case(queries=300, keys=257, heads=4, groups=2, head_dim=32, dtype=dtype, band=BANDS[band]))


@pytest.mark.parametrize("band", ["full", "window"])
def test_alibi_counts_the_whole_distance(band):
    assert_right(Case(queries=100, keys=130, slopes=torch.tensor([0.3, 0.01]), band=BANDS[band], bias=1.0))
