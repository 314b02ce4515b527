"""What cannot be read is lost where it was planned, and moves nothing."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_streams import TASKS, VOCABULARY, contents, documents, mixture

from triptych.data_pipelines.batch import Role
from triptych.data_pipelines.stream.windows import source_id

UNREADABLE = st.sets(st.integers(0, 49), max_size=25)


@settings(max_examples=30)
@given(unreadable=UNREADABLE, num_ranks=st.sampled_from([1, 2, 5]))
def test_planned_is_seen_and_lost_by_id(unreadable, num_ranks):
    """Two epochs' worth of rows, every rank reading its own."""
    data, cursor, planned, seen, lost = mixture(unreadable=unreadable), {}, [], [], []
    names = {source_id(name): name for name in TASKS}
    for _ in range(14):
        wanted = mixture().batch(cursor, 10, 0, 1)[0]
        planned += documents(wanted)
        parts = [data.batch(cursor, 10, rank, num_ranks)[0] for rank in range(num_ranks)]
        cursor = data.plan(cursor, 10)[1]
        for part in parts:
            ids = documents(part)
            gone = part.lost_BD[part.lengths_BD > 0].tolist()
            seen += [key for key, is_lost in zip(ids, gone, strict=True) if not is_lost]
            now_lost = [key for key, is_lost in zip(ids, gone, strict=True) if is_lost]
            said = {(entry.source, entry.failure.sample, entry.epoch) for entry in part.lost}
            assert said == {(names[source], sample, epoch) for source, sample, epoch, _ in now_lost}
            assert len(part.lost) == len(now_lost)
            lost += now_lost
    assert sorted(seen + lost) == sorted(planned)
    assert {sample for _, sample, _, _ in lost} <= unreadable
    assert not {sample for _, sample, _, _ in seen} & unreadable


@settings(max_examples=20)
@given(unreadable=UNREADABLE, other=UNREADABLE)
def test_the_plan_and_every_other_document_are_the_same_whatever_is_lost(unreadable, other):
    """As two ranks see it that cannot read different samples."""
    first, second = (mixture(unreadable=which).batch({}, 24, 0, 1) for which in (unreadable, other))
    assert first[1] == second[1]
    assert documents(first[0]) == documents(second[0])
    agreed_BD = first[0].lost_BD | second[0].lost_BD
    one, two = first[0].without(agreed_BD), second[0].without(agreed_BD)
    assert (one.roles_BS == two.roles_BS).all()
    held_BS = one.roles_BS != Role.PADDING
    assert (one.tokens_BS[held_BS] == two.tokens_BS[held_BS]).all()


def test_a_lost_document_leaves_padding_where_it_stood():
    whole, _ = mixture({"drawn": 1.0}).batch({}, 4, 0, 1)
    sample = int(whole.samples_BD3[1, 1, 1])
    torn, _ = mixture({"drawn": 1.0}, unreadable=[sample]).batch({}, 4, 0, 1)
    assert contents(torn)[:1] + contents(torn)[2:] == contents(whole)[:1] + contents(whole)[2:]
    start, length = int(whole.lengths_BD[1, 0]), int(whole.lengths_BD[1, 1])
    differing = np.flatnonzero((torn.tokens_BS[1] != whole.tokens_BS[1]).numpy())
    assert set(differing) <= set(range(start, start + length))
    where = slice(start, start + length)
    assert (torn.tokens_BS[1, where] == VOCABULARY.special("pad")).all()
    assert (torn.roles_BS[1, where] == Role.PADDING).all()
    assert int(whole.num_tokens - torn.num_tokens) == length
