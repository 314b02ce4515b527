import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from triptych.kernels.philox import Purpose, Stream
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


def test_known_answers():
    for counter, key, expected in KNOWN:
        words = philox_4x32(tuple(torch.tensor([c]) for c in counter), key)
        assert tuple(int(w) for w in words) == expected


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
