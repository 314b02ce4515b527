"""Documents that are put into a batch's arrays: whole, or lost and nothing written."""

import numpy as np
import pytest
from made_up_streams import LAYOUT, REGIONS, MadeUpCodes

from triptych.data_pipelines.shards.codes import Codes
from triptych.data_pipelines.stream.sources import MemoryCodes, PairSource, Pieces, TextSource

UNTOUCHED = -7


def codes_of(*items):
    return Codes(flat=np.concatenate(items).astype(np.int32), offsets=np.cumsum([0, *map(len, items)]).astype(np.int64))


def write(source, *pieces):
    """What stands where, and what is lost; pieces: (sample, first, length)."""
    columns = [np.array(column, np.int64) for column in zip(*pieces, strict=True)]
    starts = np.cumsum(columns[2]) - columns[2]
    tokens, roles = np.full(columns[2].sum(), UNTOUCHED), np.zeros(columns[2].sum(), np.uint8)
    lost = source.write(Pieces(*columns, starts), tokens, roles)
    return np.split(tokens, starts[1:]), lost


def texts(*lengths, longest=8):
    return TextSource(MemoryCodes({"text": codes_of(*map(np.arange, lengths))}), LAYOUT, longest)


def pairs(*sides):
    """Pairs of so many caption and image codes."""
    text, image = (codes_of(*map(np.arange, lengths)) for lengths in zip(*sides, strict=True))
    return PairSource("t2i", MemoryCodes({"text": text, "image": image}), LAYOUT)


def test_sizes_of_texts_count_the_end():
    assert texts(0, 3, 5, 9).sizes([(0, 2), (3, 4)]).tolist() == [1, 4, 10]


def test_sizes_of_pairs_follow_the_condition():
    assert pairs((0, 4), (2, 4), (9, 4)).sizes([(0, 3)]).tolist() == [3 + 2 + 4, 3 + 4 + 4, 3 + 4 + 4]


def test_pieces_of_a_text_hold_it_once_and_its_end():
    source = texts(0, 16)
    written, lost = write(source, (1, 0, 8), (0, 0, 2), (1, 14, 4), (1, 7, 8))
    ids = LAYOUT.vocabulary.codes_start("text") + np.arange(16)
    end = LAYOUT.vocabulary.end("text")
    assert not lost
    assert [part[1:].tolist() for part in written] == [
        ids[:7].tolist(), [end], [*ids[14:], end], ids[7:14].tolist()
    ]  # fmt: skip


def test_a_sample_is_read_once_for_all_its_pieces_in_the_order_on_disk():
    asked = []

    class Noted(MemoryCodes):
        def read_codes(self, indices, modalities):
            asked.extend(indices)
            return super().read_codes(indices, modalities)

    source = TextSource(Noted({"text": codes_of(*map(np.arange, (3, 3, 20)))}), LAYOUT, 8)
    _, lost = write(source, (2, 7, 8), (0, 0, 5), (2, 0, 8))
    assert asked == [0, 2] and not lost


@pytest.mark.parametrize("piece", [(0, 14, 4), (0, 0, 8), (0, 7, 6)])
def test_a_text_of_another_length_than_promised_is_lost(piece):
    """Texts of 4 tokens, cut as if of 16 or 12."""
    written, lost = write(texts(4), piece)
    assert lost[0].reason == "index" and lost[0].sample == 0
    assert (written[0] == UNTOUCHED).all()


def test_a_text_longer_than_promised_is_lost_at_its_end():
    _, lost = write(texts(9), (0, 0, 8), (0, 7, 2))
    assert list(lost) == [1]


def test_a_pair_of_another_length_than_promised_is_lost_alone():
    written, lost = write(pairs((1, 4), (3, 4)), (0, 0, 11), (1, 0, 11))
    assert list(lost) == [0] and lost[0].reason == "index"
    assert (written[0] == UNTOUCHED).all() and (written[1] != UNTOUCHED).all()


def test_what_cannot_be_read_is_lost_with_its_reason():
    source = PairSource("i2t", MadeUpCodes(5, longest=1, unreadable=[3]), LAYOUT)
    written, lost = write(source, (2, 0, 3 + 2 + REGIONS.text), (3, 0, 3 + 2 + REGIONS.text))
    assert [(number, failure.sample, failure.reason) for number, failure in lost.items()] == [(1, 3, "checksum")]
    assert (written[1] == UNTOUCHED).all()


def test_a_row_too_short_for_a_token_is_refused():
    with pytest.raises(ValueError, match=r"raise data\.packing\.row_length"):
        TextSource(MadeUpCodes(1), LAYOUT, 1)
