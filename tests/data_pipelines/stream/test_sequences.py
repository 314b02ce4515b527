"""One document: where its tokens, boundaries and roles stand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.data_pipelines.batch import Role
from triptych.data_pipelines.stream.sequences import SIDES, RegionSizes, SequenceLayout
from triptych.data_pipelines.vocabulary import NUM_SPECIALS, Vocabulary

VOCABULARY = Vocabulary(text=20, image=8, audio=12)


def layout(condition_multiple=None):
    regions = RegionSizes(text=4, image=4, audio=6, condition_multiple=condition_multiple)
    return SequenceLayout(vocabulary=VOCABULARY, sequence_length=16, regions=regions)


def test_ranges_are_disjoint_and_complete():
    owners = VOCABULARY.modality_ids(torch.arange(VOCABULARY.size)).tolist()
    assert owners == [-1] * NUM_SPECIALS + [0] * 21 + [1] * 9 + [2] * 13


@pytest.mark.parametrize(("multiple", "num_ends"), [(None, 2), (1, 1), (3, 1), (4, 2), (9, 2)])
def test_a_pair_written_out(multiple, num_ends):
    tokens, roles = layout(multiple).pair("t2i", {"text": np.array([5, 6]), "image": np.array([1, 2, 3, 4])})
    end, text, image = VOCABULARY.end("text"), VOCABULARY.codes_start("text"), VOCABULARY.codes_start("image")
    begin_text, begin_image = (VOCABULARY.special(name) for name in ("begin_text", "begin_image"))
    wanted = [VOCABULARY.special("task_t2i"), begin_text, text + 5, text + 6, *[end] * num_ends, begin_image]
    assert tokens.tolist() == [*wanted, *(image + code for code in (1, 2, 3, 4))]
    given_, condition, target = Role.GIVEN, Role.CONDITION, Role.TARGET
    assert roles.tolist() == [given_] * 2 + [condition] * (2 + num_ends) + [given_] + [target] * 4


@settings(max_examples=40)
@given(task=st.sampled_from(sorted(SIDES)), multiple=st.sampled_from([None, 1, 2, 5]), data=st.data())
def test_codes_come_back(task, multiple, data):
    made = layout(multiple)
    codes = {}
    for modality in SIDES[task]:
        size = VOCABULARY.num_outputs(modality) - 1
        codes[modality] = np.array(data.draw(st.lists(st.integers(0, size - 1), max_size=7)), np.int64)
    condition, target = SIDES[task]
    tokens, roles = made.pair(task, codes)
    assert len(tokens) == made.pair_sizes(task, np.array([len(codes[condition])]))[0] <= made.longest(task)
    where = made.target_slice(task, len(tokens))
    kept = codes[target][: made.regions.of(target)]
    assert np.array_equal(made.region_codes(target, tokens[where]), kept)
    assert (roles[where] == Role.TARGET).all()
    given_side = slice(2, where.start - 1)
    assert np.array_equal(
        made.region_codes(condition, tokens[given_side]), codes[condition][: made.regions.of(condition)]
    )
    assert (roles[given_side] == Role.CONDITION).all()
    assert roles[[0, 1, where.start - 1]].tolist() == [Role.GIVEN] * 3


@pytest.mark.parametrize(
    ("first", "length", "wanted"),
    [(0, 5, ["task", 1, 2, 3, "end"]), (0, 3, ["task", 1, 2]), (2, 3, ["task", 3, "end"]), (3, 9, ["task", "end"])],
)
def test_a_piece_of_a_text(first, length, wanted):
    tokens, roles = layout().text(np.array([1, 2, 3]), first, length)
    ids = {"task": VOCABULARY.special("task_text"), "end": VOCABULARY.end("text")}
    assert tokens.tolist() == [ids[i] if isinstance(i, str) else VOCABULARY.codes_start("text") + i for i in wanted]
    assert roles.tolist() == [Role.GIVEN] + [Role.TARGET] * (len(tokens) - 1)


def test_regions_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="raise sequence_length or lower the regions"):
        SequenceLayout(vocabulary=VOCABULARY, sequence_length=12, regions=RegionSizes(text=4, image=4, audio=6))
