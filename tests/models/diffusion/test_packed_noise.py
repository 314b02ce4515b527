"""A document's noise is its own: the same wherever it stands and whatever shares its row."""

from dataclasses import replace

import pytest
import torch
from document_rows import one_each, packed, places_in
from hypothesis import given
from hypothesis import strategies as st

from triptych.data_pipelines.batch import Batch, Role
from triptych.data_pipelines.vocabulary import Vocabulary
from triptych.kernels.philox import Purpose, Stream
from triptych.models.diffusion.corruption import ConditionTreatment, corrupt, stratified_times
from triptych.models.diffusion.schedules import Cosine, CosineMdlm, Linear, ModalitySchedules

VOCABULARY = Vocabulary(text=6, image=5, audio=4)
PAD = VOCABULARY.special("pad")
SCHEDULES = ModalitySchedules(text=Linear(), image=Cosine(), audio=CosineMdlm())
CONDITION = ConditionTreatment(masking_probability=0.4, dropout=0.4)
STREAM = Stream(seed=5)
ROW = 40
LONGEST = 12


@st.composite
def plans(draw):
    """Lengths of up to eight documents, and rows that they fit into, in any order."""
    lengths = draw(st.lists(st.integers(3, LONGEST), min_size=1, max_size=8))
    order = draw(st.permutations(range(len(lengths))))
    rows = [[]]
    for number in order:
        if sum(lengths[n] for n in rows[-1]) + lengths[number] > ROW or (rows[-1] and draw(st.booleans())):
            rows.append([])
        rows[-1].append(number)
    return lengths, rows


def documents(lengths, copies=1):
    """One to a row: a task's token, a condition, targets; of three sources. With two copies, twins follow originals."""
    draw = torch.Generator().manual_seed(sum(lengths))
    count = len(lengths)
    tokens_BS, roles_BS = torch.full((count, LONGEST), PAD), torch.full((count, LONGEST), int(Role.PADDING)).byte()
    for b, length in enumerate(lengths):
        codes = torch.randint(VOCABULARY.start("text"), VOCABULARY.size, (length,), generator=draw)
        tokens_BS[b, :length] = codes
        roles_BS[b, :length] = int(Role.TARGET)
        roles_BS[b, : 1 + length // 3] = int(Role.CONDITION)
        roles_BS[b, 0] = int(Role.GIVEN)
    numbers_B = torch.arange(count)
    samples_B3 = torch.stack([numbers_B % 3, 900 - numbers_B, numbers_B * 0 + 2], 1)
    copies_B = torch.arange(copies).repeat(count)
    twice = [x.repeat_interleave(copies, 0) for x in (tokens_BS, roles_BS, samples_B3, numbers_B * 7)]
    return one_each(*twice[:3], copies_B=copies_B, numbers_B=twice[3] * copies + copies_B)


def noise(batch, copies=1):
    times_BD = stratified_times(batch, STREAM, num_strata=16, copies=copies)
    return corrupt(
        batch, times_BD, schedules=SCHEDULES, condition=CONDITION, vocabulary=VOCABULARY, stream=STREAM
    ), times_BD


def assert_same_noise(lengths, rows):
    """AssertionError unless every document has the same noise in these rows as alone in one."""
    single = documents(lengths)
    alone, alone_times_BD = noise(single)
    together, times_BD = noise(packed(single, rows, ROW, PAD))
    for number, (row, where) in places_in(rows, single).items():
        assert times_BD[row, rows[row].index(number)] == alone_times_BD[number, 0]
        for name in ("tokens_BS", "maskable_BS", "masked_BS", "levels_BS", "weights_BS"):
            mine = getattr(together, name)[row, where]
            assert torch.equal(mine, getattr(alone, name)[number, : len(mine)]), name


@given(plans())
def test_noise_is_the_same_in_any_row(plan):
    assert_same_noise(*plan)


def places_of_the_row(batch):
    """Positions counted from the beginning of the row."""
    places = ORIGINAL_PLACES(batch)
    return replace(places, position_BS=torch.arange(batch.tokens_BS.shape[1]).expand_as(places.position_BS))


def places_of_the_first(batch):
    """Every position in the row's first document, whose key is the row's."""
    places = ORIGINAL_PLACES(batch)
    return replace(places, document_BS=torch.zeros_like(places.document_BS))


ORIGINAL_PLACES = Batch.places


@pytest.mark.parametrize("mistake", [places_of_the_row, places_of_the_first])
def test_noise_that_is_keyed_by_the_row_is_seen(mistake, monkeypatch):
    plan = ([9, 12, 7], [[0, 1], [2]])
    assert_same_noise(*plan)
    monkeypatch.setattr(Batch, "places", mistake)
    with pytest.raises(AssertionError):
        assert_same_noise(*plan)


@given(plans())
def test_twins_in_packed_rows_complement_each_other(plan):
    lengths, rows = plan
    twins = [[2 * number + copy for number in row] for row in rows for copy in (0, 1)]
    batch = packed(documents(lengths, copies=2), twins, ROW, PAD)
    corruption, times_BD = noise(batch, copies=2)
    times_BD = times_BD * (batch.lengths_BD > 0)
    assert torch.equal(times_BD[0::2], times_BD[1::2])
    assert torch.equal(corruption.maskable_BS[0::2], corruption.maskable_BS[1::2])
    assert torch.equal(corruption.masked_BS[0::2] ^ corruption.masked_BS[1::2], corruption.maskable_BS[0::2])


def pieces(length, longest):
    """A text of `length` tokens in pieces of `longest` at most behind a task's token each, as one batch."""
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 6, (length,), generator=draw) + VOCABULARY.codes_start("text")
    firsts = torch.arange(0, length, longest)
    tokens_BS = torch.full((len(firsts), longest + 1), PAD)
    roles_BS = torch.full(tokens_BS.shape, int(Role.PADDING)).byte()
    for b, first in enumerate(firsts.tolist()):
        piece = ids[first : first + longest]
        tokens_BS[b, 0], tokens_BS[b, 1 : 1 + len(piece)] = VOCABULARY.special("task_text"), piece
        roles_BS[b, 0], roles_BS[b, 1 : 1 + len(piece)] = int(Role.GIVEN), int(Role.TARGET)
    batch = one_each(tokens_BS, roles_BS, torch.tensor([[3, 50, 0]]).repeat(len(firsts), 1))
    return replace(batch, offsets_BD=firsts[:, None])


def masked_tokens(batch, times_BD):
    """Of each token of the text, in order, whether it is masked."""
    corruption = corrupt(
        batch, times_BD, schedules=SCHEDULES, condition=CONDITION, vocabulary=VOCABULARY, stream=STREAM
    )
    return corruption.masked_BS[batch.roles_BS == Role.TARGET]


@given(st.integers(2, 60), st.integers(1, 30))
def test_a_tokens_draw_is_that_of_its_place_in_its_text_however_it_is_cut(length, longest):
    cut, whole = pieces(length, longest), pieces(length, length)
    halves = [torch.full_like(batch.offsets_BD, 0.5, dtype=torch.float64) for batch in (cut, whole)]
    assert torch.equal(masked_tokens(cut, halves[0]), masked_tokens(whole, halves[1]))


def test_pieces_of_one_text_have_times_of_their_own():
    batch = pieces(300, 10)
    at_once = replace(batch, numbers_BD=torch.zeros_like(batch.numbers_BD))
    assert len(stratified_times(at_once, STREAM, num_strata=1, copies=1).unique()) == 30


def test_times_are_stratified_in_each_source_that_shares_the_rows():
    """Two sources in one batch, several documents to a row: 64 in a row of each take all 64 strata."""
    numbers_B = torch.arange(128)
    batch = one_each(
        torch.full((128, 4), 1),
        torch.full((128, 4), int(Role.TARGET)).byte(),
        torch.stack([numbers_B % 2, numbers_B // 2, numbers_B * 0], 1),
        numbers_B=64 + numbers_B // 2,
    )
    rows = [list(range(n, n + 4)) for n in range(0, 128, 4)]
    times_BD = stratified_times(packed(batch, rows, 16, PAD), STREAM, num_strata=64, copies=1)
    for source in (0, 1):
        shift = STREAM.uniform_at(Purpose.TIME_SHIFT, torch.tensor([source, 1, 0]), torch.tensor(0))
        strata = (torch.remainder(times_BD.flatten()[source::2] - shift, 1) * 64).floor().long()
        assert torch.equal(strata.sort().values, torch.arange(64))
