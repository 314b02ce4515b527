"""The CUDA device gives the bits that the CPU gives."""

import pytest
import torch

from triptych.kernels.philox import Purpose, Stream, reference
from triptych.kernels.philox.bernoulli import packed_bernoulli, unpack
from triptych.kernels.philox.philox import philox_4x32

pytestmark = pytest.mark.gpu

SAMPLES = torch.tensor([[0, 0, 0], [3, 2**40 - 1, 65535], [2**31 - 1, 2**32, 1]])
COPIES = torch.tensor([0, 1, 1])


@pytest.mark.parametrize("size", [1, 1003, 100_000])
@pytest.mark.parametrize(
    ("counter", "key"),
    [  # the authors' known-answer vectors; the reference gives their answers
        ((0, 0, 0, 0), (0, 0)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2),
        ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0)),
    ],
)
def test_known_answers_on_cuda(counter, key, size):
    words = philox_4x32(tuple(torch.full((size,), c, device="cuda") for c in counter), key)
    assert [word.unique().tolist() for word in words] == [[e] for e in reference.philox_4x32(counter, key)]


@pytest.mark.parametrize("purpose", Purpose)
def test_uniform_is_the_cpu_s(purpose):
    stream = Stream(seed=2**64 - 5)
    on_gpu = stream.uniform(purpose, SAMPLES.cuda(), 100_003)
    assert torch.equal(on_gpu.cpu(), stream.uniform(purpose, SAMPLES, 100_003))


def test_indexed_draws_are_the_cpu_s():
    indices = torch.arange(2**40 - 5000, 2**40)
    on_gpu = Stream(seed=8).at(Purpose.TIME_SHIFT, indices.cuda())
    assert torch.equal(on_gpu.cpu(), Stream(seed=8).at(Purpose.TIME_SHIFT, indices))


def test_row_words_are_the_cpu_s():
    stream = Stream(seed=2**63)
    on_gpu = stream.row_words(Purpose.DROPOUT, SAMPLES.cuda(), COPIES.cuda())
    on_cpu = stream.row_words(Purpose.DROPOUT, SAMPLES, COPIES)
    assert torch.equal(torch.stack(on_gpu).cpu(), torch.stack(on_cpu))


@pytest.mark.parametrize("threshold", [0, 6554, 58982, 65536])
def test_coins_are_the_cpu_s(threshold):
    words = Stream(seed=1).row_words(Purpose.DROPOUT, SAMPLES, COPIES)
    on_cpu = packed_bernoulli(words, range(5, 5005), range(3, 203), threshold)  # 3 million counters: several blocks
    on_gpu = packed_bernoulli(tuple(word.cuda() for word in words), range(5, 5005), range(3, 203), threshold)
    assert torch.equal(on_gpu.cpu(), on_cpu)
    assert torch.equal(unpack(on_gpu).cpu(), unpack(on_cpu))
