"""Slopes of ALiBi."""

import pytest

from triptych.models.attention.transformer_engine.alibi import alibi_slopes


@pytest.mark.parametrize(
    ("num_heads", "slopes"),
    [
        (8, [2.0**-i for i in range(1, 9)]),
        (1, [2.0**-8]),
        (6, [0.25, 0.0625, 2.0**-6, 2.0**-8, 0.5, 0.125]),
    ],
)
def test_slopes_are_the_papers(num_heads, slopes):
    assert alibi_slopes(num_heads).tolist() == slopes
