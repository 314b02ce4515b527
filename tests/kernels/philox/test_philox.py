import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from triptych.kernels.philox import Purpose, Stream, reference
from triptych.kernels.philox.philox import philox_4x32

# Known-answer vectors of the generator's authors (Random123 distribution, kat_vectors, philox4x32 10 rounds).
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (
        (0xFFFFFFFF,) * 4,
        (0xFFFFFFFF,) * 2,
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


# uniform(purpose, [[3, 2**40 - 1, 65535]], 3)[0, 2] at seed 2**64 - 5, as first released: part of every run since.
RELEASED = {
    Purpose.CORRUPTION: "0x1.1e4d9d04ac3dfp-1",
    Purpose.TIME: "0x1.d20e6faebe692p-2",
    Purpose.TIME_SHIFT: "0x1.96499591b7a85p-1",
    Purpose.CONDITION_DROPOUT: "0x1.52452df02306bp-1",
    Purpose.CONDITION_MASKING: "0x1.117b5968d4639p-1",
    Purpose.SAMPLING: "0x1.80642fbafa285p-1",
    Purpose.REVEAL: "0x1.9a7135eac8b1dp-1",
    Purpose.AUGMENTATION: "0x1.9cde70cdd4f31p-1",
}

WORDS = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("size", [1, 7, 64, 1003])  # vectorised loops and their remainders
def test_known_answers(size):
    for counter, key, expected in KNOWN:
        words = philox_4x32(tuple(torch.full((size,), c) for c in counter), key)
        assert [word.unique().tolist() for word in words] == [[e] for e in expected]


def test_the_reference_knows_the_answers():
    assert [reference.philox_4x32(counter, key) for counter, key, _ in KNOWN] == [expected for *_, expected in KNOWN]


@given(
    counter=st.tuples(WORDS, WORDS, WORDS, WORDS),
    key=st.tuples(WORDS, WORDS),
    rounds=st.integers(1, 10),
    data=st.data(),
)
def test_shapes_that_broadcast_give_the_reference(counter, key, rounds, data):
    axes = data.draw(st.permutations(range(3)))
    position, group, row = (torch.arange(4).view([-1 if d == axis else 1 for d in range(3)]) for axis in axes)
    starts = torch.tensor(counter)
    counters = (starts[0] ^ position, starts[1] ^ group, starts[2] ^ row, starts[3] ^ row)
    words = philox_4x32(counters, (key[0] ^ row, key[1] ^ row), rounds)
    at = data.draw(st.tuples(*[st.integers(0, 3)] * 3))
    p, g, r = (at[axis] for axis in axes)
    one = (counter[0] ^ p, counter[1] ^ g, counter[2] ^ r, counter[3] ^ r)
    assert tuple(int(word[at]) for word in words) == reference.philox_4x32(one, (key[0] ^ r, key[1] ^ r), rounds)


@pytest.mark.parametrize("purpose", RELEASED)
def test_released_draws_stay(purpose):
    draws = Stream(seed=2**64 - 5).uniform(purpose, torch.tensor([[3, 2**40 - 1, 65535]]), 3)
    assert float(draws[0, 2]).hex() == RELEASED[purpose]


@given(seed=st.integers(0, 2**64 - 1), index=st.integers(0, 2**40 - 2), copy=st.integers(0, 2**32 - 2))
def test_row_words_are_the_reference_of_the_whole_key(seed, index, copy):
    samples = torch.tensor([[3, index, 9], [2**31 - 1, index + 1, 65535]])
    words = Stream(seed=seed).row_words(Purpose.DROPOUT, samples, torch.tensor([copy, copy + 1]))
    for row, (source, at, epoch) in enumerate(samples.tolist()):
        counter = (copy + row, at & 0xFFFFFFFF, (at >> 32) | (epoch << 8) | (Purpose.DROPOUT << 24), source)
        expected = reference.philox_4x32(counter, (seed & 0xFFFFFFFF, seed >> 32))
        assert tuple(int(word[row]) for word in words) == expected


def test_keys_of_names_stay():
    assert Stream(seed=2**64 - 5).key_of("layers.3.mlp") == (3237230444, 1325637909)


def test_keys_differ_between_names_and_seeds():
    keys = {Stream(seed=seed).key_of(name) for seed in (1, 2, 11) for name in ("layers.1.mlp", "layers.11.mlp", "")}
    assert len(keys) == 9


@given(seed=st.integers(0, 2**64 - 1), index=st.integers(0, 2**40 - 2), epoch=st.integers(0, 2**16 - 1))
def test_a_draw_depends_on_its_key_alone(seed, index, epoch):
    stream = Stream(seed=seed)
    samples = torch.tensor([[0, index, epoch], [1, index, epoch], [0, index + 1, epoch]])
    together = stream.uniform(Purpose.CORRUPTION, samples, 7)
    alone = stream.uniform(Purpose.CORRUPTION, samples[1:2], 9)
    assert torch.equal(together[1], alone[0, :7])
    assert len(together.unique()) == together.numel()


def test_purposes_are_independent():
    samples = torch.tensor([[0, 5, 0]])
    draws = [Stream(seed=1).uniform(purpose, samples, 4) for purpose in Purpose]
    assert len(torch.cat(draws).unique()) == 4 * len(Purpose)


def test_draws_are_uniform():
    samples = torch.stack(
        [torch.zeros(2000, dtype=torch.int64), torch.arange(2000), torch.zeros(2000, dtype=torch.int64)], 1
    )
    draws = Stream(seed=3).uniform(Purpose.TIME, samples, 50).numpy().ravel()
    counts, _ = np.histogram(draws, bins=100, range=(0, 1))
    chi_square = ((counts - 1000) ** 2 / 1000).sum()
    assert chi_square < 148  # 99.9th percentile of chi-square with 99 degrees of freedom
    assert 0 < draws.min() and draws.max() < 1
