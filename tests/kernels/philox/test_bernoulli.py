import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from triptych.kernels.philox import bernoulli, reference
from triptych.kernels.philox.bernoulli import packed_bernoulli, unpack

WORDS_OF_ROWS = torch.tensor([[1, 2, 3, 4], [0xFFFFFFFF] * 4, [0xDEADBEEF, 7, 0x80000000, 0]]).unbind(1)


def test_every_byte_unpacks_from_its_lowest_bit():
    packed = torch.arange(256, dtype=torch.uint8).view(2, 128)
    expected = np.unpackbits(packed.numpy(), axis=1, bitorder="little")
    assert unpack(packed).numpy().astype(np.uint8).tolist() == expected.tolist()


@given(
    position=st.integers(0, 2**32 - 3), group=st.integers(0, 2**29 - 3), threshold=st.integers(0, 2**16), data=st.data()
)
def test_a_coin_is_that_of_the_reference(position, group, threshold, data):
    packed = packed_bernoulli(
        WORDS_OF_ROWS, range(position, position + 2), range(group, group + 2), threshold=threshold
    )
    row, p, channel = data.draw(st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 15)))
    words = tuple(int(word[row]) for word in WORDS_OF_ROWS)
    expected = reference.coin(words, position + p, 8 * group + channel, threshold)
    assert bool(unpack(packed)[row, p, channel]) == expected


def test_all_or_none_at_the_ends():
    none, every = (packed_bernoulli(WORDS_OF_ROWS, range(9), range(5), threshold) for threshold in (0, 65536))
    assert not none.any()
    assert (every == 255).all()


def test_the_size_of_the_blocks_does_not_matter(monkeypatch):
    whole = packed_bernoulli(WORDS_OF_ROWS, range(3, 40), range(2, 7), 30000)
    monkeypatch.setattr(bernoulli, "_AT_ONCE_CPU", 61)
    assert torch.equal(packed_bernoulli(WORDS_OF_ROWS, range(3, 40), range(2, 7), 30000), whole)


@pytest.mark.parametrize("threshold", [1, 655, 6554, 32768, 65535])
def test_every_bit_of_a_byte_has_its_chance(threshold):
    coins = unpack(packed_bernoulli(WORDS_OF_ROWS, range(1000), range(200), threshold))
    per_bit = coins.view(-1, 8).double().mean(0)
    chance, num_coins = threshold / 65536, coins.numel() / 8
    sigmas = (per_bit - chance) / (chance * (1 - chance) / num_coins) ** 0.5
    assert sigmas.abs().max() < 4.5  # 8 two-sided tests: 5e-5


def test_bits_of_a_byte_are_independent_in_pairs():
    coins = unpack(packed_bernoulli(WORDS_OF_ROWS, range(1000), range(200), 32768)).view(-1, 8).double()
    correlations = torch.corrcoef(coins.T) - torch.eye(8, dtype=torch.float64)
    assert correlations.abs().max() < 5 / len(coins) ** 0.5
