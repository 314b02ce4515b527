import pytest
from attention_norms import ATTENTIONS, attention_over_residual, shape

from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement


@pytest.fixture(scope="module")
def growth():
    """By how much attention's share at the start grows from 32 positions to 16 times as many."""
    with process_groups(Placement()) as groups:
        yield {
            name: attention_over_residual(shape(attention, 512), groups)
            / attention_over_residual(shape(attention, 32), groups)
            for name, attention in ATTENTIONS.items()
        }


def test_sigma_without_a_bias_grows_with_the_sequence(growth):
    assert growth["sigmoid, b = 0"] > 10


def test_minus_log_n_holds_the_size_of_attention_at_any_length(growth):
    assert growth["sigmoid, b = -log n"] == pytest.approx(1, abs=0.2)
    assert growth["softmax"] == pytest.approx(1, abs=0.2)
