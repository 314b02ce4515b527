"""Samples of a tiny model against their exact law, by chi-square at a fixed seed: 27 sequences of 3 tokens.

The limit 65 is the 99.997th percentile of chi-square with 26 degrees of freedom.
"""

import itertools
from dataclasses import dataclass

import pytest
import torch

from triptych.data_pipelines.vocabulary import Vocabulary
from triptych.kernels.philox import Stream
from triptych.models.diffusion.sampling import Ancestral, Canvas, MaskGit, ModalitySamplers, Sampler, SamplerConfig
from triptych.models.diffusion.schedules import Cosine, CosineMdlm, Linear

VOCABULARY = Vocabulary(text=2, image=1, audio=1)
START = VOCABULARY.start("text")
L, V = 3, 3
STATES = list(itertools.product(range(V + 1), repeat=L))  # 0 is [MASK], else 1 + the id within its range
LIMIT = 65.0
N = 20_000


def random_conditionals():
    """p(token at position | state), float64 [states, L, V], consistent with no joint distribution."""
    generator = torch.Generator().manual_seed(1)
    return torch.softmax(2 * torch.randn(len(STATES), L, V, generator=generator, dtype=torch.float64), -1)


def random_joint():
    """p(sequence), float64 [V, V, V]."""
    generator = torch.Generator().manual_seed(2)
    return torch.softmax(1.5 * torch.randn(V**L, generator=generator, dtype=torch.float64), 0).reshape(V, V, V)


def conditionals_of(joint):
    """Its exact conditionals, [states, L, V]."""
    table = torch.full((len(STATES), L, V), 1 / V, dtype=torch.float64)
    for number, state in enumerate(STATES):
        visible = joint[tuple(slice(None) if digit == 0 else slice(digit - 1, digit) for digit in state)]
        for i in itertools.compress(range(L), [digit == 0 for digit in state]):
            marginal = visible.sum([j for j in range(L) if j != i])
            table[number, i] = marginal / marginal.sum()
    return table


def digits_of(tokens_BL):
    return torch.where(tokens_BL == VOCABULARY.mask, 0, 1 + tokens_BL - START)


def denoiser_of(conditionals):
    def denoiser(inputs):
        places = torch.tensor([(V + 1) ** (L - 1 - i) for i in range(L)])
        states_B = (digits_of(inputs.tokens_BS[:, 1:]) * places).sum(1)
        rows_R = inputs.rows["text"]
        return {"text": torch.log(conditionals[states_B[rows_R // (L + 1)], rows_R % (L + 1) - 1])}

    return denoiser


def canvas_of(num_rows):
    tokens_BS = torch.tensor([VOCABULARY.special("task_text"), *[VOCABULARY.mask] * L]).repeat(num_rows, 1)
    modality_BS = torch.tensor([-1, *[0] * L], dtype=torch.int8).repeat(num_rows, 1)
    nothing_BS = torch.zeros_like(tokens_BS, dtype=torch.bool)
    samples_B = torch.arange(num_rows)
    return Canvas(tokens_BS=tokens_BS, modality_BS=modality_BS, condition_BS=nothing_BS, samples_B=samples_B)


def sampled_counts(conditionals, **settings):
    """How often each of the 27 sequences came out, [27]."""
    sampler = Sampler(ModalitySamplers(text=SamplerConfig(**settings)), VOCABULARY)
    tokens_BS = sampler.sample(denoiser_of(conditionals), canvas_of(N), Stream(seed=4))
    places = torch.tensor([V ** (L - 1 - i) for i in range(L)])
    return torch.bincount(((tokens_BS[:, 1:] - START) * places).sum(1), minlength=V**L).double()


def chi_square(counts, law):
    expected = N * law.flatten()
    return ((counts - expected) ** 2 / expected).sum().item()


def exact_law(conditionals, schedule, num_steps):
    """p(sequence) after num_steps ancestral steps, by running the Markov chain over all 64 states. [27]."""
    chances = {STATES[0]: 1.0}
    for k in range(num_steps):
        ends = torch.tensor([num_steps - k, num_steps - k - 1], dtype=torch.float64) / num_steps
        high, low = schedule.level(ends).tolist()
        after = dict.fromkeys(STATES, 0.0)
        for state, chance in chances.items():
            for next_state, step_chance in transitions(state, conditionals, 1 - low / high):
                after[next_state] += chance * step_chance
        chances = {state: chance for state, chance in after.items() if chance > 0}
    full = itertools.product(range(1, V + 1), repeat=L)
    return torch.tensor([chances.get(state, 0.0) for state in full], dtype=torch.float64)


def transitions(state, conditionals, reveal):
    """Each position stays as it is or, if masked, becomes a token with probability reveal * p(token)."""
    table = conditionals[STATES.index(state)].tolist()
    options = []
    for i, digit in enumerate(state):
        if digit:
            options.append([(digit, 1.0)])
        else:
            options.append([(0, 1 - reveal), *((v + 1, reveal * table[i][v]) for v in range(V))])
    for choice in itertools.product(*options):
        chance = 1.0
        for _, part in choice:
            chance *= part
        yield tuple(digit for digit, _ in choice), chance


@pytest.mark.parametrize("schedule", [Linear(), Cosine(), CosineMdlm()], ids=lambda schedule: schedule.kind)
def test_few_ancestral_steps_follow_the_law_of_the_chain(schedule):
    conditionals = random_conditionals()
    counts = sampled_counts(conditionals, num_steps=3, rule=Ancestral(schedule=schedule))
    assert chi_square(counts, exact_law(conditionals, schedule, 3)) < LIMIT


def test_many_ancestral_steps_follow_the_joint():
    joint = random_joint()
    counts = sampled_counts(conditionals_of(joint), num_steps=300, rule=Ancestral())
    assert chi_square(counts, joint) < LIMIT


def test_one_reveal_at_a_time_in_random_order_follows_the_joint():
    joint = random_joint()
    rule = MaskGit(schedule=Linear(), choice_temperature=1e9)
    counts = sampled_counts(conditionals_of(joint), num_steps=L, rule=rule)
    assert chi_square(counts, joint) < LIMIT


def test_a_block_per_token_follows_the_chain_rule_from_left_to_right():
    conditionals = random_conditionals()
    law = torch.zeros(V, V, V, dtype=torch.float64)
    for a, b, c in itertools.product(range(V), repeat=L):
        states = [STATES.index(state) for state in ((0, 0, 0), (a + 1, 0, 0), (a + 1, b + 1, 0))]
        law[a, b, c] = conditionals[states[0], 0, a] * conditionals[states[1], 1, b] * conditionals[states[2], 2, c]
    counts = sampled_counts(conditionals, num_steps=1, rule=Ancestral(), block_length=1)
    assert chi_square(counts, law) < LIMIT


@dataclass(kw_only=True, slots=True, frozen=True)
class RevealsAtTheLinearRate(Ancestral):
    """A planted fault: 1 - s/t whatever the schedule."""

    def wanted(self, moment):
        return moment.hidden_BS & (moment.draws_BS >= moment.next_time / moment.time)


@dataclass(kw_only=True, slots=True, frozen=True)
class RevealsByTheDrawsOfTheTokens(MaskGit):
    """A planted fault: the surest first, although the order must not look at the tokens."""

    def revealed(self, moment, wanted_BS, log_confidences_BS):
        return MaskGit(schedule=self.schedule, choice_temperature=0.0).revealed(moment, wanted_BS, log_confidences_BS)


def test_the_comparison_sees_a_wrong_reveal_probability():
    conditionals = random_conditionals()
    counts = sampled_counts(conditionals, num_steps=3, rule=RevealsAtTheLinearRate())
    assert chi_square(counts, exact_law(conditionals, Cosine(), 3)) > 2 * LIMIT


def test_the_comparison_sees_an_order_that_looks_at_the_tokens():
    joint = random_joint()
    rule = RevealsByTheDrawsOfTheTokens(schedule=Linear())
    assert chi_square(sampled_counts(conditionals_of(joint), num_steps=L, rule=rule), joint) > 2 * LIMIT


def test_the_comparison_sees_a_temperature():
    joint = random_joint()
    counts = sampled_counts(conditionals_of(joint), num_steps=100, rule=Ancestral(), temperature=0.85)
    assert chi_square(counts, joint) > 2 * LIMIT
