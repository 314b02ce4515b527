"""Each rule at one step, and over a whole schedule."""

import pytest
import torch
from pydantic import TypeAdapter

from triptych.models.diffusion.sampling.rules import Ancestral, Confidence, MaskGit, Moment, RevealRule, top_positions
from triptych.models.diffusion.schedules import Cosine, Linear


def moment_of(hidden_BS, *, num_start, step=0, num_steps=4, draws_BS=None):
    return Moment(
        hidden_BS=hidden_BS,
        num_start_B=torch.full((len(hidden_BS),), num_start),
        time=(num_steps - step) / num_steps,
        next_time=(num_steps - step - 1) / num_steps,
        draws_BS=torch.rand(hidden_BS.shape, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        if draws_BS is None
        else draws_BS,
    )


def revealed_counts(rule, num_positions, num_steps):
    """How many of one row's positions each step reveals; confidences are the positions' own indices."""
    hidden_BS = torch.ones(1, num_positions, dtype=torch.bool)
    counts = []
    for step in range(num_steps):
        moment = moment_of(hidden_BS, num_start=num_positions, step=step, num_steps=num_steps)
        wanted_BS = rule.wanted(moment)
        scores_BS = torch.arange(num_positions).double()[None].masked_fill(~wanted_BS, -torch.inf)
        revealed_BS = rule.revealed(moment, wanted_BS, scores_BS)
        assert not (revealed_BS & ~hidden_BS).any()
        hidden_BS = hidden_BS & ~revealed_BS
        counts.append(int(revealed_BS.sum()))
    return counts


@pytest.mark.parametrize("rule", [Ancestral(), Ancestral(schedule=Cosine()), Confidence(), MaskGit()], ids=str)
@pytest.mark.parametrize(("num_positions", "num_steps"), [(1, 1), (7, 3), (16, 16), (3, 10), (100, 7)])
def test_everything_is_revealed_by_the_last_step(rule, num_positions, num_steps):
    assert sum(revealed_counts(rule, num_positions, num_steps)) == num_positions


@pytest.mark.parametrize(
    ("num_positions", "num_steps", "expected"), [(12, 4, [3, 3, 3, 3]), (10, 4, [3, 2, 3, 2]), (10, 10, [1] * 10)]
)
def test_confidence_reveals_equal_parts(num_positions, num_steps, expected):
    counts = revealed_counts(Confidence(), num_positions, num_steps)
    assert sorted(counts) == sorted(expected)


def test_cosine_schedule_reveals_few_first():
    """After step k of 4, floor(100 cos(pi/2 k/4)) stay: 92, 70, 38, 0."""
    assert revealed_counts(MaskGit(schedule=Cosine()), 100, 4) == [8, 22, 32, 38]


def test_confidence_takes_the_surest():
    hidden_BS = torch.tensor([[True, False, True, True, True]])
    scores_BS = torch.tensor([[-3.0, -torch.inf, -1.0, -2.0, -4.0]], dtype=torch.float64)
    moment = moment_of(hidden_BS, num_start=4, num_steps=2)
    revealed_BS = Confidence().revealed(moment, Confidence().wanted(moment), scores_BS)
    assert revealed_BS.tolist() == [[False, False, True, True, False]]


def test_maskgit_without_noise_is_confidence():
    hidden_BS = torch.ones(4, 9, dtype=torch.bool)
    scores_BS = torch.randn(4, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    moment = moment_of(hidden_BS, num_start=9)
    quiet = MaskGit(schedule=Linear(), choice_temperature=0.0).revealed(moment, hidden_BS, scores_BS)
    assert torch.equal(quiet, Confidence().revealed(moment, hidden_BS, scores_BS))


def test_maskgit_first_choice_follows_the_gumbel_law():
    """Adding Gumbel noise of scale tau and taking the top one draws from softmax(score / tau)."""
    scores = torch.tensor([0.0, -1.0, -2.5], dtype=torch.float64)
    draws_BS = torch.rand(20_000, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    hidden_BS = torch.ones(20_000, 3, dtype=torch.bool)
    moment = moment_of(hidden_BS, num_start=3, num_steps=3, draws_BS=draws_BS)
    rule = MaskGit(schedule=Linear(), choice_temperature=1.5)
    frequencies = rule.revealed(moment, hidden_BS, scores.expand(20_000, 3)).double().mean(0)
    expected = torch.softmax(scores / (1.5 * 2 / 3), 0)
    torch.testing.assert_close(frequencies, expected, rtol=0, atol=4 * 0.5 / 20_000**0.5)


def test_ancestral_reveals_at_one_minus_the_ratio_of_levels():
    hidden_BS = torch.ones(200, 100, dtype=torch.bool)
    moment = moment_of(hidden_BS, num_start=100, step=1, num_steps=4)  # from 3/4 to 1/2
    expected = 1 - torch.sin(torch.tensor(torch.pi / 4)) / torch.sin(torch.tensor(torch.pi * 3 / 8))
    fraction = Ancestral(schedule=Cosine()).wanted(moment).double().mean().item()
    assert fraction == pytest.approx(expected.item(), abs=4 * 0.5 / 20_000**0.5)


def test_ties_go_to_the_first_position():
    assert top_positions(torch.zeros(1, 5), torch.tensor([2])).tolist() == [[True, True, False, False, False]]


def test_rules_validate_from_a_mapping_with_a_kind():
    adapter = TypeAdapter(RevealRule)
    for rule in (Ancestral(schedule=Cosine()), Confidence(), MaskGit(choice_temperature=2.0)):
        assert adapter.validate_python(adapter.dump_python(rule)) == rule


def test_negative_choice_temperature_is_refused():
    with pytest.raises(ValueError, match="choice_temperature"):
        MaskGit(choice_temperature=-1.0)
