import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from triptych.data_pipelines.batch import Role
from triptych.data_pipelines.shards.codes import Codes
from triptych.data_pipelines.stream.sequences import SIDES, RegionSizes, SequenceLayout
from triptych.data_pipelines.stream.sources import TextSource
from triptych.data_pipelines.vocabulary import NUM_SPECIALS, Vocabulary

VOCABULARY = Vocabulary(text=20, image=8, audio=12)
LAYOUT = SequenceLayout(vocabulary=VOCABULARY, sequence_length=16, regions=RegionSizes(text=4, image=4, audio=6))


def test_ranges_are_disjoint_and_complete():
    owners = VOCABULARY.modality_ids(torch.arange(VOCABULARY.size)).tolist()
    assert owners == [-1] * NUM_SPECIALS + [0] * 21 + [1] * 9 + [2] * 13


def test_a_pair_written_out():
    tokens, roles = LAYOUT.pair("t2i", {"text": np.array([5, 6]), "image": np.array([1, 2, 3, 4])})
    end, text, image = VOCABULARY.end("text"), VOCABULARY.codes_start("text"), VOCABULARY.codes_start("image")
    begin_text, begin_image, pad = (VOCABULARY.special(name) for name in ("begin_text", "begin_image", "pad"))
    wanted = [VOCABULARY.special("task_t2i"), begin_text, text + 5, text + 6, end, end, begin_image]
    wanted += [image + code for code in (1, 2, 3, 4)] + [pad] * 5
    assert tokens.tolist() == wanted
    given_, condition, target, padding = Role.GIVEN, Role.CONDITION, Role.TARGET, Role.PADDING
    assert roles.tolist() == [given_] * 2 + [condition] * 4 + [given_] + [target] * 4 + [padding] * 5


@given(task=st.sampled_from(sorted(SIDES)), data=st.data())
def test_codes_come_back(task, data):
    codes = {}
    for modality in SIDES[task]:
        length = data.draw(st.integers(0, LAYOUT.regions.of(modality)))
        size = VOCABULARY.num_outputs(modality) - 1
        codes[modality] = np.array(data.draw(st.lists(st.integers(0, size - 1), min_size=length, max_size=length)), int)
    tokens, roles = LAYOUT.pair(task, codes)
    for side, (modality, role) in enumerate(zip(SIDES[task], (Role.CONDITION, Role.TARGET), strict=True)):
        where = LAYOUT.region_slice(task, side)
        assert np.array_equal(LAYOUT.region_codes(modality, tokens[where]), codes[modality])
        assert (roles[where] == role).all()
    assert (roles != Role.PADDING).sum() == LAYOUT.num_tokens(task)


def test_packed_text_holds_every_token_once_and_ends_documents():
    documents = [np.arange(7), np.arange(3), np.arange(11), np.arange(20)]
    offsets = np.cumsum([0, *map(len, documents)]).astype(np.int64)
    source = TextSource(Codes(flat=np.concatenate(documents).astype(np.int32), offsets=offsets), LAYOUT)
    rows = [source.sequence(i) for i in range(len(source))]
    stream = np.concatenate([tokens[1:] for tokens, _ in rows])
    wanted = np.concatenate([[*(d + VOCABULARY.codes_start("text")), VOCABULARY.end("text")] for d in documents])
    assert len(rows) == len(wanted) // 15
    assert np.array_equal(stream, wanted[: len(stream)])
    assert all(roles.tolist() == [Role.GIVEN] + [Role.TARGET] * 15 for _, roles in rows)


def test_regions_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="raise sequence_length or lower the regions"):
        SequenceLayout(vocabulary=VOCABULARY, sequence_length=12, regions=RegionSizes(text=4, image=4, audio=6))
