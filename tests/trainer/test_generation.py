"""Generation by a model that knows what it wants: places, lengths, keys, infilling."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from triptych.kernels.philox import Stream
from triptych.models.diffusion.sampling import ModalitySamplers, Sampler
from triptych.trainer.generation import Generator
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement

CAPTIONS = [np.array([index, 3]) for index in range(5)]


@pytest.fixture(scope="module")
def generator():
    """A tiny model with its initial weights."""
    import tiny_run

    from triptych.models.trimodal.model import TrimodalTransformer

    with process_groups(Placement()) as groups:
        model = TrimodalTransformer(tiny_run.MODEL, groups.collection)
        model.initialise(seed=3)
        yield made(model.eval(), tiny_run.LAYOUT)


def made(model: nn.Module, layout, *, seed=0, batch_size=8):
    return Generator(
        model=model,
        sampler=Sampler(ModalitySamplers(), layout.vocabulary),
        layout=layout,
        stream=Stream(seed=seed),
        device=torch.device("cpu"),
        batch_size=batch_size,
    )


def assert_same_codes(first, second):
    assert [codes.tolist() for codes in first] == [codes.tolist() for codes in second]


@pytest.mark.parametrize("task", ["t2i", "t2s"])
def test_batches_change_nothing(generator, task):
    in_twos = made(generator.model, generator.layout, batch_size=2)
    assert_same_codes(in_twos.targets(task, CAPTIONS), generator.targets(task, CAPTIONS))


def test_items_are_keyed_one_by_one(generator):
    assert_same_codes(generator.targets("t2i", CAPTIONS[2:], first_key=2), generator.targets("t2i", CAPTIONS)[2:])


def test_an_image_fills_its_region(generator):
    assert {len(codes) for codes in generator.targets("t2i", CAPTIONS)} == {generator.layout.regions.image}


def test_the_last_state_is_what_is_generated(generator):
    masked, codes = list(generator.states("t2i", CAPTIONS))[-1]
    assert not masked.any()
    assert_same_codes(codes, generator.targets("t2i", CAPTIONS))


def test_states_hide_less_and_less(generator):
    hidden = [int(masked.sum()) for masked, _ in generator.states("t2i", CAPTIONS)]
    assert hidden == sorted(hidden, reverse=True)


def test_infilling_keeps_the_rest(generator):
    image, holes = np.array([1, 2, 3, 4]), np.array([False, True, False, True])
    (filled,) = generator.infill("t2i", [(CAPTIONS[0], image)], holes)
    assert filled[~holes].tolist() == image[~holes].tolist()


def test_text_begins_with_its_prompt(generator):
    for codes in generator.texts(3, np.array([5, 6, 7])):
        assert codes[:3].tolist() == [5, 6, 7]


@pytest.fixture(scope="module")
def of_lengths(generator):
    """Conditions take what they need, so pairs differ in length; a batch is as long as its longest."""
    regions = dataclasses.replace(generator.layout.regions, text=8, condition_multiple=2)
    layout = dataclasses.replace(generator.layout, regions=regions, sequence_length=17)
    return made(generator.model, layout)


CONDITIONS = [np.arange(length) for length in (7, 1, 3, 0)]


def test_a_pair_is_what_it_is_beside_a_longer_one(of_lengths):
    alone = [of_lengths.targets("t2s", [codes], first_key=key)[0] for key, codes in enumerate(CONDITIONS)]
    assert_same_codes(of_lengths.targets("t2s", CONDITIONS), alone)


def test_pairs_of_different_lengths_fill_their_own_regions(of_lengths):
    canvas = of_lengths.canvas("t2i", CONDITIONS, 0)
    widths = canvas.tokens_BS.shape[1] - (0 if canvas.padding_BS is None else canvas.padding_BS.sum(1))
    assert widths.tolist() == [3 + 4 + region for region in (8, 2, 4, 2)]
    assert (canvas.modality_BS >= 0).sum(1).tolist() == [4] * 4
    assert {len(codes) for codes in of_lengths.targets("t2i", CONDITIONS)} == {4}


def test_states_of_pairs_of_different_lengths_are_their_targets(of_lengths):
    masked, codes = list(of_lengths.states("t2i", CONDITIONS))[-1]
    assert masked.shape == (4, 4) and not masked.any()
    assert_same_codes(codes, of_lengths.targets("t2i", CONDITIONS))


def test_infilling_keeps_the_rest_of_pairs_of_different_lengths(of_lengths):
    image, holes = np.array([1, 2, 3, 4]), np.array([False, True, False, True])
    filled = of_lengths.infill("t2i", [(codes, image + key) for key, codes in enumerate(CONDITIONS)], holes)
    assert [codes[~holes].tolist() for codes in filled] == [(image + key)[~holes].tolist() for key in range(4)]
