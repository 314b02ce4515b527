"""Records in, verdict out: who is odd, in what, with both values."""

from dataclasses import replace

import pytest

from triptych.trainer.parallel.agreement.verdicts import (
    Standing,
    different_facts,
    disagreement,
    not_finite,
    odd_ones,
)

FINE = Standing(step=4, tokens=800, cursor=17, loss=2.5, gradient_norm=1.0)
LABELS = [f"rank {rank} (n)" for rank in range(4)]


def said(odd, **changes):
    standings = [replace(FINE, **changes) if rank in odd else FINE for rank in range(4)]
    return disagreement(standings, LABELS)


def test_equal_ranks_are_fine():
    assert said(()) is None


@pytest.mark.parametrize(
    ("name", "value"), [("step", 3), ("tokens", 799), ("cursor", 18), ("loss", 2.6), ("gradient_norm", 1.1)]
)
def test_the_odd_rank_is_named_with_both_values(name, value):
    text = said((2,), **{name: value})
    assert f"{name} is {value} on rank 2 (n), but {getattr(FINE, name)} on the 3 others" in text


def test_the_last_bits_of_a_reduced_number_may_differ():
    assert said((2,), loss=2.5 * (1 + 1e-8)) is None


def test_a_rank_without_a_loss_does_not_contradict():
    assert said((0, 1), loss=None) is None


def test_a_local_loss_that_is_not_finite_comes_before_what_it_spoils():
    standings = [replace(FINE, loss=float("nan"), gradient_norm=float("nan"), sound=rank != 3) for rank in range(4)]
    assert not_finite(standings, LABELS) == "the loss of rank 3 (n) was not finite in step 4"
    assert disagreement(standings, LABELS) is None


def test_a_gradient_that_is_not_finite_everywhere():
    text = not_finite([replace(FINE, gradient_norm=float("inf"))] * 4, LABELS)
    assert text.startswith("gradient_norm is not finite on every rank in step 4")


def test_another_place_in_the_data_comes_before_the_loss_that_it_changes():
    assert "cursor is 18 on rank 1" in said((1,), cursor=18, loss=9.0)


def test_without_a_majority_both_sides_are_named():
    assert odd_ones("tokens", [5, 6], LABELS[:2]) == "tokens is 6 on rank 1 (n), but 5 on rank 0 (n)"


def test_many_odd_ranks_are_counted():
    labels = [f"rank {rank}" for rank in range(20)]
    text = odd_ones("tokens", [1] * 7 + [2] * 13, labels)
    assert text == "tokens is 1 on rank 0, rank 1, rank 2, rank 3 and 3 more, but 2 on the 13 others"


def test_the_first_fact_that_differs():
    facts = [{"the commit": "a", "settings": "x"}, {"the commit": "b", "settings": "y"}, {"the commit": "a"}]
    text = different_facts(facts, LABELS[:3])
    assert text.startswith("ranks do not run the same: the commit is b on rank 1 (n), but a on the 2 others; ")


def test_equal_facts_are_fine():
    assert different_facts([{"a": "1"}] * 3, LABELS[:3]) is None
