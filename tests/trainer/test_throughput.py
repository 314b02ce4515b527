import pytest

from triptych.trainer.throughput import Throughput, peak_tflops

EIGHT = Throughput(tokens=8_000, seconds=2.0, num_devices=8)


def test_tokens_are_shared_among_the_devices():
    assert EIGHT.tokens_per_second_per_device == 500


def test_utilization_is_a_share_of_one_devices_peak():
    operations = 8 * 2.0 * 250e12
    assert EIGHT.tflops_per_device(operations) == pytest.approx(250)
    assert EIGHT.utilization(operations, 1000.0) == pytest.approx(0.25)


def test_an_unknown_peak_gives_no_utilization():
    assert EIGHT.utilization(1e15, None) is None


@pytest.mark.parametrize(
    ("device", "precision", "peak"),
    [("NVIDIA H200", "bf16", 989.5), ("NVIDIA H200", "fp32", None), ("NVIDIA H2000", "bf16", None)],
)
def test_only_known_devices_have_a_peak(device, precision, peak):
    assert peak_tflops(device, precision) == peak
