"""A checksum sees one bit, rows that changed places, and values that only print alike."""

import pytest
import torch

from triptych.trainer.parallel.agreement.checksums import checksums

DTYPES = [torch.float32, torch.bfloat16, torch.float64]


def checksum(tensor):
    return checksums([tensor]).item()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (2, 3, 4)])
def test_equal_tensors_have_equal_checksums(dtype, shape):
    tensor = torch.randn(shape).to(dtype)
    assert checksum(tensor) == checksum(tensor.clone())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (7,), (3, 5), (2, 3, 4)])
def test_the_last_bit_of_any_element_counts(dtype, shape):
    tensor = torch.randn(shape).to(dtype)
    before = checksum(tensor)
    changed = torch.nextafter(tensor, torch.full_like(tensor, 9.0)) if dtype != torch.bfloat16 else tensor * 1.01
    for index in range(tensor.numel()):
        other = tensor.clone()
        other.view(-1)[index] = changed.view(-1)[index]
        assert checksum(other) != before


def test_rows_that_changed_places():
    tensor = torch.randn(4, 3)
    assert checksum(tensor[[1, 0, 2, 3]]) != checksum(tensor)


def test_minus_zero_is_not_zero():
    assert checksum(torch.tensor([-0.0])) != checksum(torch.tensor([0.0]))


def test_a_transposed_parameter_is_read_as_it_is_indexed():
    tensor = torch.randn(4, 3)
    assert checksum(tensor.t()) == checksum(tensor.t().contiguous())
