"""The sampling loop: what it fills and leaves alone, in which order, and what its randomness depends on."""

from dataclasses import replace

import pytest
import torch
from document_rows import one_each

from triptych.data_pipelines.batch import Role
from triptych.data_pipelines.vocabulary import MODALITIES, Vocabulary
from triptych.kernels.philox import Stream
from triptych.models.diffusion.sampling import (
    Ancestral,
    Canvas,
    Confidence,
    MaskGit,
    ModalitySamplers,
    Sampler,
    SamplerConfig,
)
from triptych.models.diffusion.schedules import Cosine

VOCABULARY = Vocabulary(text=6, image=5, audio=4)
B, S = 6, 18
STREAM = Stream(seed=8)
RULES = [Ancestral(), Ancestral(schedule=Cosine()), Confidence(), MaskGit(), MaskGit(choice_temperature=0.5)]
each_rule = pytest.mark.parametrize("rule", RULES, ids=str)


class RowDenoiser:
    """Logits that depend on all tokens of a row, on the position, and on nothing else. Counts its calls."""

    def __init__(self):
        self.calls = []

    def __call__(self, inputs):
        self.calls.append(inputs)
        places = torch.arange(1, S + 1)
        outputs = {}
        for modality, rows_R in inputs.rows.items():
            hashes_R = (inputs.tokens_BS[rows_R // S] * places).sum(1) + 7 * (rows_R % S)
            columns = torch.arange(VOCABULARY.num_outputs(modality))
            outputs[modality] = 2 * torch.sin(hashes_R[:, None] * (1.0 + columns).double())
        return outputs


def make_canvas(num_rows=B):
    """A task token, 5 text, 5 image, 5 audio, 2 padding; five of the fifteen are given, the rest holes."""
    generator = torch.Generator().manual_seed(0)
    parts = [torch.full((num_rows, 1), VOCABULARY.special("task_t2i"))]
    for modality in MODALITIES:
        codes = torch.randint(0, VOCABULARY.num_outputs(modality), (num_rows, 5), generator=generator)
        parts.append(codes + VOCABULARY.start(modality))
    tokens_BS = torch.cat([*parts, torch.full((num_rows, 2), VOCABULARY.special("pad"))], 1)
    holes_BS = torch.zeros_like(tokens_BS, dtype=torch.bool)
    holes_BS[:, 1:16] = torch.rand(num_rows, 15, generator=generator).argsort(1) < 10
    padding_BS = torch.zeros_like(holes_BS)
    padding_BS[:, 16:] = True
    condition_BS = ~holes_BS & ~padding_BS
    condition_BS[:, 0] = False
    return tokens_BS, Canvas.of_tokens(
        tokens_BS,
        holes_BS,
        VOCABULARY,
        condition_BS=condition_BS,
        samples_B=torch.arange(num_rows) + 40,
        padding_BS=padding_BS,
    )


def rows_of(canvas, index):
    names = ("tokens_BS", "modality_BS", "condition_BS", "samples_B", "padding_BS")
    return replace(canvas, **{name: getattr(canvas, name)[index] for name in names})


def sampler_of(**settings):
    config = SamplerConfig(**({"num_steps": 4, "rule": Confidence()} | settings))
    return Sampler(ModalitySamplers(text=config, image=config, audio=config), VOCABULARY)


@each_rule
def test_fills_every_hole_with_its_modality_and_keeps_the_rest(rule):
    tokens_BS, canvas = make_canvas()
    filled_BS = sampler_of(rule=rule).sample(RowDenoiser(), canvas, STREAM)
    holes_BS = canvas.modality_BS >= 0
    assert torch.equal(filled_BS[~holes_BS], tokens_BS[~holes_BS])
    assert torch.equal(VOCABULARY.modality_ids(filled_BS)[holes_BS], canvas.modality_BS[holes_BS].long())


@each_rule
@pytest.mark.parametrize("guidance", [0.0, 2.0])
@pytest.mark.parametrize("block_length", [None, 2])
def test_a_row_does_not_depend_on_its_batch(rule, guidance, block_length):
    _, canvas = make_canvas()
    sampler = sampler_of(rule=rule, guidance=guidance, block_length=block_length)
    together_BS = sampler.sample(RowDenoiser(), canvas, STREAM)
    order = torch.tensor([4, 1, 5, 0])
    assert torch.equal(sampler.sample(RowDenoiser(), rows_of(canvas, order), STREAM), together_BS[order])
    for b in range(B):
        alone_BS = sampler.sample(RowDenoiser(), rows_of(canvas, slice(b, b + 1)), STREAM)
        assert torch.equal(alone_BS[0], together_BS[b])


@each_rule
def test_samples_change_with_seed_and_key_only(rule):
    _, canvas = make_canvas()
    sampler = sampler_of(rule=rule)
    first_BS = sampler.sample(RowDenoiser(), canvas, STREAM)
    assert torch.equal(sampler.sample(RowDenoiser(), canvas, STREAM), first_BS)
    assert not torch.equal(sampler.sample(RowDenoiser(), canvas, Stream(seed=9)), first_BS)
    moved = replace(canvas, samples_B=canvas.samples_B + 1)
    assert not torch.equal(sampler.sample(RowDenoiser(), moved, STREAM), first_BS)


@each_rule
def test_states_reveal_each_hole_once_and_never_change_it(rule):
    _, canvas = make_canvas()
    states = list(sampler_of(rule=rule).states(RowDenoiser(), canvas, STREAM))
    revealed = torch.stack([state.revealed_BS for state in states])
    assert torch.equal(revealed.sum(0), (canvas.modality_BS >= 0).long())
    for state in states:
        shown_BS = state.tokens_BS != VOCABULARY.mask
        assert torch.equal(state.tokens_BS[shown_BS], states[-1].tokens_BS[shown_BS])


@each_rule
def test_blocks_are_finished_from_left_to_right(rule):
    _, canvas = make_canvas()
    sampler = sampler_of(rule=rule, block_length=2, num_steps=3)
    steps_BS = torch.full((B, S), -1)
    for state in sampler.states(RowDenoiser(), canvas, STREAM):
        steps_BS[state.revealed_BS] = state.step
    for index in range(len(MODALITIES)):
        for b in range(B):
            steps = steps_BS[b][canvas.modality_BS[b] == index]
            assert torch.equal(steps // 3, torch.arange(len(steps)) // 2)


def test_each_block_is_revealed_in_equal_parts():
    _, canvas = make_canvas()
    modality_BS = torch.full((B, S), -1, dtype=torch.int8)
    modality_BS[:, 1:9] = 0
    canvas = replace(canvas, modality_BS=modality_BS)
    states = list(sampler_of(block_length=4, num_steps=2).states(RowDenoiser(), canvas, STREAM))
    assert [state.revealed_BS.sum(1).tolist() for state in states] == [[2] * B] * 4


def test_modalities_follow_their_own_number_of_steps():
    _, canvas = make_canvas()
    config = ModalitySamplers(
        text=SamplerConfig(num_steps=2, rule=Confidence()),
        image=SamplerConfig(num_steps=5, rule=MaskGit()),
        audio=SamplerConfig(num_steps=1, rule=Ancestral()),
    )
    states = list(Sampler(config, VOCABULARY).states(RowDenoiser(), canvas, STREAM))
    assert len(states) == 5
    for index, last in ((0, 1), (1, 4), (2, 0)):
        holes_BS = canvas.modality_BS == index
        hidden = [(state.tokens_BS[holes_BS] == VOCABULARY.mask).any().item() for state in states]
        assert not any(hidden[last:])


def test_steps_that_reveal_nothing_do_not_call_the_denoiser():
    _, canvas = make_canvas()
    denoiser = RowDenoiser()
    states = list(sampler_of(num_steps=200, rule=Ancestral()).states(denoiser, canvas, STREAM))
    assert len(denoiser.calls) == sum(bool(state.revealed_BS.any()) for state in states) < 200


def test_strength_zero_makes_no_second_half():
    _, canvas = make_canvas()
    denoiser = RowDenoiser()
    sampler_of(guidance=0.0).sample(denoiser, canvas, STREAM)
    assert all(len(inputs.tokens_BS) == B for inputs in denoiser.calls)


def test_guidance_hides_the_condition_in_the_second_half_alone():
    _, canvas = make_canvas()
    denoiser = RowDenoiser()
    sampler_of(guidance=1.5).sample(denoiser, canvas, STREAM)
    for inputs in denoiser.calls:
        with_BS, without_BS = inputs.tokens_BS.chunk(2)
        assert torch.equal(with_BS[canvas.condition_BS], canvas.tokens_BS[canvas.condition_BS])
        assert (without_BS[canvas.condition_BS] == VOCABULARY.mask).all()
        assert torch.equal(with_BS[~canvas.condition_BS], without_BS[~canvas.condition_BS])
        assert torch.equal(inputs.padding_BS, canvas.padding_BS.repeat(2, 1))


def test_guidance_at_minus_one_samples_without_the_condition():
    _, canvas = make_canvas()
    hidden = replace(canvas, tokens_BS=canvas.tokens_BS.masked_fill(canvas.condition_BS, VOCABULARY.mask))
    guided_BS = sampler_of(guidance=-1.0).sample(RowDenoiser(), canvas, STREAM)
    plain_BS = sampler_of().sample(RowDenoiser(), hidden, STREAM)
    holes_BS = canvas.modality_BS >= 0
    assert torch.equal(guided_BS[holes_BS], plain_BS[holes_BS])


def test_guidance_of_one_modality_leaves_the_others_conditional():
    _, canvas = make_canvas()
    plain = SamplerConfig(num_steps=3, rule=Confidence())
    denoiser = RowDenoiser()
    config = ModalitySamplers(text=plain, image=replace(plain, guidance=2.0), audio=plain)
    Sampler(config, VOCABULARY).sample(denoiser, canvas, STREAM)
    first = denoiser.calls[0]
    assert (first.rows["image"] >= B * S).sum() == len(first.rows["image"]) // 2
    assert (first.rows["text"] < B * S).all()


def test_end_is_not_drawn_where_it_may_not_be():
    _, canvas = make_canvas(64)
    filled_BS = sampler_of(may_end=False, temperature=3.0).sample(RowDenoiser(), canvas, STREAM)
    holes_BS = canvas.modality_BS >= 0
    ends = [VOCABULARY.end(modality) for modality in MODALITIES]
    assert not torch.isin(filled_BS[holes_BS], torch.tensor(ends)).any()


def test_a_canvas_without_holes_comes_back_as_it_is():
    tokens_BS, canvas = make_canvas()
    closed = replace(canvas, tokens_BS=tokens_BS, modality_BS=torch.full_like(canvas.modality_BS, -1))
    assert torch.equal(sampler_of().sample(RowDenoiser(), closed, STREAM), tokens_BS)


def test_what_lies_in_a_hole_does_not_matter():
    tokens_BS, canvas = make_canvas()
    sampler = sampler_of()
    expected_BS = sampler.sample(RowDenoiser(), canvas, STREAM)
    assert torch.equal(sampler.sample(RowDenoiser(), replace(canvas, tokens_BS=tokens_BS), STREAM), expected_BS)


def test_canvas_of_a_batch_hides_its_targets():
    tokens_BS, _ = make_canvas()
    roles_BS = torch.full((B, S), Role.GIVEN, dtype=torch.uint8)
    roles_BS[:, 1:6], roles_BS[:, 6:11], roles_BS[:, 16:] = Role.CONDITION, Role.TARGET, Role.PADDING
    rows_B = torch.arange(B)
    batch = one_each(tokens_BS, roles_BS, torch.stack([rows_B, rows_B + 3, rows_B], 1))
    canvas = Canvas.of_batch(batch, VOCABULARY)
    assert torch.equal(canvas.tokens_BS == VOCABULARY.mask, roles_BS == Role.TARGET)
    assert torch.equal(canvas.modality_BS == MODALITIES.index("image"), roles_BS == Role.TARGET)
    assert torch.equal(canvas.condition_BS, roles_BS == Role.CONDITION)
    assert torch.equal(canvas.samples_B, rows_B + 3)


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_steps", 0), ("temperature", -1.0), ("top_p", 0.0), ("guidance", -2.0), ("block_length", 0)],
)
def test_bad_settings_are_refused(name, value):
    with pytest.raises(ValueError, match=name):
        sampler_of(**{name: value})


def test_more_steps_than_keys_are_refused():
    _, canvas = make_canvas()
    with pytest.raises(ValueError, match="steps"):
        sampler_of(num_steps=60_000, block_length=1).sample(RowDenoiser(), canvas, STREAM)


def test_columns_past_the_ids_are_never_drawn():
    _, canvas = make_canvas()
    plain = RowDenoiser()

    def padded(inputs):
        return {m: torch.nn.functional.pad(logits_RV, (0, 3), value=50.0) for m, logits_RV in plain(inputs).items()}

    config = ModalitySamplers(**dict.fromkeys(MODALITIES, SamplerConfig(num_steps=3, rule=MaskGit())))
    sampler = Sampler(config, VOCABULARY)
    assert torch.equal(sampler.sample(padded, canvas, STREAM), sampler.sample(plain, canvas, STREAM))
