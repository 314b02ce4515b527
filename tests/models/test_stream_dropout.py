"""Dropout's mask as a pure function of what it drops. Shapes: S positions, B rows, H channels."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.checkpoint import checkpoint

from triptych.kernels.philox import Purpose, Stream, reference
from triptych.models.dropout import DropoutKeys, StreamDropout

S, B, H = 24, 6, 80
SAMPLES = torch.tensor([[b % 2, 1000 + b, b // 3] for b in range(B)])
COPIES = torch.arange(B) % 2
NAME = "layers.3.mlp"


def keys_of(samples=SAMPLES, copies=COPIES, first_position=0, seed=5):
    return DropoutKeys.of(Stream(seed=seed), samples, copies, first_position)


def dropped(shape=(S, B, H), keys=None, name=NAME, rate=0.3, first_channel=0):
    """bool: where ones become zero."""
    return StreamDropout(name, rate, first_channel)(torch.ones(shape), keys or keys_of()) == 0


def of_one_row(sample=(1, 7, 2), copy=0, name=NAME, seed=5, shape=(400, 1, 400), rate=0.5):
    keys = keys_of(torch.tensor([sample]), torch.tensor([copy]), seed=seed)
    return dropped(shape, keys, name, rate)


@pytest.mark.parametrize("rate", [-0.1, 1, 1.5, float("nan"), float("inf")])
def test_a_rate_outside_is_refused_with_the_mend(rate):
    with pytest.raises(ValueError, match=r"^dropout rate .* of layers\.3\.mlp is not in \[0, 1\); give .*$"):
        StreamDropout(NAME, rate)


@pytest.mark.parametrize("dropout", [StreamDropout(NAME, 0.0), StreamDropout(NAME, 0.5).eval()])
def test_rate_0_and_eval_return_their_argument(dropout):
    hidden = torch.randn(S, B, H)
    assert dropout(hidden, None) is hidden


def test_training_without_keys_is_our_fault():
    with pytest.raises(AssertionError, match="needs keys"):
        StreamDropout(NAME, 0.5)(torch.ones(S, B, H), None)


def test_it_holds_no_state():
    assert StreamDropout(NAME, 0.5).state_dict() == {}


def test_it_leaves_torch_s_generator_alone():
    before = torch.get_rng_state()
    dropped()
    assert torch.equal(torch.get_rng_state(), before)


@given(position=st.integers(0, S - 1), row=st.integers(0, B - 1), channel=st.integers(0, H - 1))
def test_an_element_is_that_of_the_reference(position, row, channel):
    source, index, epoch = SAMPLES[row].tolist()
    counter = (int(COPIES[row]), index, (epoch << 8) | (Purpose.DROPOUT << 24), source)
    word0, word1, *counters = reference.philox_4x32(counter, (5, 0))
    key0, key1 = Stream(seed=5).key_of(NAME)
    expected = reference.coin((word0 ^ key0, word1 ^ key1, *counters), 9 + position, channel, round(0.3 * 65536))
    assert bool(dropped(keys=keys_of(first_position=9))[position, row, channel]) == expected


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.5, 0.9])
def test_the_rate_is_dropped_within_binomial_bounds(rate):
    mask = dropped((200, B, 800), rate=rate)
    deviation = (rate * (1 - rate) * mask.numel()) ** 0.5
    assert (
        abs(int(mask.sum()) - rate * mask.numel()) < 4 * deviation + mask.numel() / 2**17
    )  # 2**-17: rounding of rates


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kept_elements_are_scaled_by_the_rounded_rate(dtype):
    hidden = torch.randn(S, B, H).to(dtype)
    output = StreamDropout(NAME, 0.1)(hidden, keys_of())
    scaled = (hidden.float() * (65536 / (65536 - 6554))).to(dtype)
    assert output.dtype == dtype
    assert torch.equal(output, torch.where(dropped(rate=0.1), torch.zeros((), dtype=dtype), scaled))


@pytest.mark.parametrize("rate", [0.1, 0.7])
def test_the_mean_is_kept(rate):
    output = StreamDropout(NAME, rate)(torch.ones(200, B, 800), keys_of())
    standard_error = (rate / (1 - rate) / output.numel()) ** 0.5
    assert abs(float(output.double().mean()) - 1) < 4 * standard_error


@pytest.mark.parametrize(("rate", "kept"), [(2.0**-18, 65536), (1 - 2.0**-18, 1)])
def test_rates_next_to_the_ends_round_and_stay_finite(rate, kept):
    output = StreamDropout(NAME, rate)(torch.ones(200, B, 800), keys_of())
    assert set(output.unique().tolist()) <= {0.0, 65536 / kept}


@pytest.mark.parametrize(
    "other",
    [
        {"name": "layers.3.attention"},
        {"name": "layers.13.mlp"},
        {"seed": 6},
        {"copy": 1},
        {"sample": (0, 7, 2)},
        {"sample": (1, 8, 2)},
        {"sample": (1, 7 + 2**32, 2)},
        {"sample": (1, 7, 3)},
    ],
    ids=str,
)
def test_masks_of_different_keys_are_independent(other):
    one, two = of_one_row(), of_one_row(**other)
    agreement = (one == two).double().mean()
    assert abs(float(agreement) - 0.5) < 4.5 * 0.5 / one.numel() ** 0.5


@pytest.mark.parametrize("shift", [1, 2, 8, 64])
@pytest.mark.parametrize("dim", [0, 2], ids=["positions", "channels"])
def test_masks_of_neighbours_are_independent(dim, shift):
    mask = of_one_row()
    length = mask.shape[dim] - shift
    one, two = mask.narrow(dim, 0, length), mask.narrow(dim, shift, length)
    agreement = (one == two).double().mean()
    assert abs(float(agreement) - 0.5) < 4.5 * 0.5 / one.numel() ** 0.5


def test_no_two_rows_positions_or_channels_share_a_mask():
    mask = dropped((64, B, 64), rate=0.5)
    for dim in range(3):
        assert mask.unique(dim=dim).shape == mask.shape


@given(cut=st.integers(0, S))
def test_parts_of_the_sequence_are_parts_of_the_whole(cut):
    parts = [dropped((length, B, H), keys_of(first_position=first)) for first, length in ((0, cut), (cut, S - cut))]
    assert torch.equal(torch.cat(parts), dropped())


@given(order=st.permutations(range(B)), cut=st.integers(0, B))
def test_rows_have_their_masks_in_any_micro_batch(order, cut):
    parts = [dropped((S, len(o), H), keys_of(SAMPLES[o], COPIES[o])) for o in (order[:cut], order[cut:])]
    assert torch.equal(torch.cat(parts, 1), dropped()[:, order])


@given(cut=st.integers(0, H))
def test_parts_of_the_channels_are_parts_of_the_whole(cut):
    parts = [dropped((S, B, width), first_channel=first) for first, width in ((0, cut), (cut, H - cut))]
    assert torch.equal(torch.cat(parts, 2), dropped())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gradient_has_the_same_mask_and_scale(dtype):
    dropout, keys = StreamDropout(NAME, 0.3, first_channel=5), keys_of()
    hidden = torch.randn(S, B, H).to(dtype).requires_grad_()
    gradient = torch.randn(S, B, H).to(dtype)
    dropout(hidden, keys).backward(gradient)
    assert torch.equal(hidden.grad, dropout(gradient, keys))


def test_one_bit_per_element_is_saved():
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor):
        StreamDropout(NAME, 0.3)(torch.ones(S, B, H, requires_grad=True), keys_of())
    assert sum(tensor.nbytes for tensor in saved) == S * B * H // 8


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_recomputed_activations_give_equal_gradients(use_reentrant):
    linears = torch.nn.ModuleList([torch.nn.Linear(H, H) for _ in range(2)])
    dropouts = [StreamDropout(f"layers.{i}", 0.3) for i in range(2)]
    keys = keys_of()

    def block(hidden):
        for linear, dropout in zip(linears, dropouts, strict=True):
            hidden = dropout(torch.tanh(linear(hidden)), keys)
        return hidden

    hidden = torch.randn(S, B, H, requires_grad=True)
    inputs = [hidden, *linears.parameters()]
    plain = torch.autograd.grad(block(hidden).sum(), inputs)
    recomputed = checkpoint(block, hidden, use_reentrant=use_reentrant, preserve_rng_state=False)
    recomputed.sum().backward()
    assert all(torch.equal(one, two.grad) for one, two in zip(plain, inputs, strict=True))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cuda_drops_and_scales_as_the_cpu_does(dtype):
    hidden, gradient = torch.randn(2, 1000, B, 1000).to(dtype)
    found = []
    for device in ("cpu", "cuda"):
        leaf = hidden.clone().to(device).requires_grad_()
        keys = keys_of(SAMPLES.to(device), COPIES.to(device), first_position=77)
        output = StreamDropout(NAME, 0.1, first_channel=3)(leaf, keys)
        output.backward(gradient.to(device))
        found.append(torch.stack([output.detach(), leaf.grad]).cpu())
    assert torch.equal(*found)
