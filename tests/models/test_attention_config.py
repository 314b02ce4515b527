"""The fields of a model's attention."""

import pytest

from triptych.models.attention.config import AttentionConfig


def test_a_bias_that_is_no_finite_number_is_refused():
    with pytest.raises(ValueError, match=r'attention\.bias is nan; set it to a finite number, or to "-log n"'):
        AttentionConfig(function="sigmoid", bias=float("nan"))


def test_a_field_of_sigma_under_softmax_is_warned_of():
    with pytest.warns(UserWarning, match=r"attention\.bias and attention\.kernel have no effect on softmax"):
        AttentionConfig(bias=-3.0, kernel="triton")


def test_the_same_under_sigmoid_is_not(recwarn):
    AttentionConfig(function="sigmoid", bias=-3.0, learned_bias="per_head", kernel="blocked")
    assert list(recwarn) == []
