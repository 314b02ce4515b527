"""Time limits as Slurm writes them."""

import pytest

from triptych.launch.slurm.job import seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 5400), ("1:30", 90), ("24:00:00", 86_400), ("2-12", 216_000), ("1-00:30", 88_200), ("1-01:02:03", 90_123)],
)
def test_a_limit_is_as_long_as_slurm_takes_it(text, seconds):
    assert seconds_of(text) == seconds
