"""Codes of several codebooks in one stream: undone exactly, and any stream is read without harm."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.models.tokenizers.audio.patterns import ARRANGEMENTS, CodebookPattern

CODES_KT = np.array([[1, 2], [3, 0], [2, 1]])


def pattern(arrangement, num_codebooks=3, codebook_size=4):
    return CodebookPattern(arrangement=arrangement, num_codebooks=num_codebooks, codebook_size=codebook_size)


@st.composite
def patterns_and_codes(draw):
    chosen = pattern(draw(st.sampled_from(ARRANGEMENTS)), draw(st.integers(1, 9)), draw(st.integers(1, 50)))
    num_frames = draw(st.integers(0, 12))
    seed = draw(st.integers(0, 2**32 - 1))
    shape = (chosen.num_codebooks, num_frames)
    return chosen, np.random.default_rng(seed).integers(0, chosen.codebook_size, shape)


@pytest.mark.parametrize(
    ("arrangement", "stream"),
    [
        ("flattened", [1, 7, 10, 2, 4, 9]),
        ("delayed", [1, 12, 12, 2, 7, 12, 12, 4, 10, 12, 12, 9]),
        ("parallel", [1, 2, 7, 4, 10, 9]),
    ],
)
def test_three_codebooks_of_two_frames(arrangement, stream):
    assert pattern(arrangement).stream(CODES_KT).tolist() == stream


@given(patterns_and_codes())
def test_every_arrangement_is_undone(drawn):
    chosen, codes_KT = drawn
    back_KT = chosen.codes_of(chosen.stream(codes_KT))
    assert back_KT.dtype == np.int64
    np.testing.assert_array_equal(back_KT, codes_KT)


@given(patterns_and_codes())
def test_a_stream_is_as_long_as_said_and_within_the_vocabulary(drawn):
    chosen, codes_KT = drawn
    stream = chosen.stream(codes_KT)
    assert stream.shape == (chosen.num_codes(codes_KT.shape[1]),)
    assert ((stream >= 0) & (stream < chosen.vocab_size)).all()


@given(patterns_and_codes(), st.lists(st.integers(-5, 600), max_size=60))
def test_any_stream_is_read(drawn, ids):
    chosen, _ = drawn
    codes_KT = chosen.codes_of(np.array(ids, np.int64))
    assert len(codes_KT) == chosen.num_codebooks
    assert ((codes_KT >= 0) & (codes_KT < chosen.codebook_size)).all()


@given(patterns_and_codes(), st.integers(0, 200))
def test_a_stream_cut_off_keeps_the_frames_before(drawn, num_kept):
    chosen, codes_KT = drawn
    stream = chosen.stream(codes_KT)[:num_kept]
    back_KT = chosen.codes_of(stream)
    num_frames = back_KT.shape[1]
    if chosen.arrangement == "parallel":  # whole tracks came first: of the last one, what there is of it
        per_track = codes_KT.shape[1]
        lengths = np.clip(len(stream) - per_track * np.arange(chosen.num_codebooks), 0, num_frames)
        assert num_frames == min(len(stream), per_track)
    else:
        corners = chosen.num_codebooks - 1 if chosen.arrangement == "delayed" else 0
        lengths = [num_frames] * chosen.num_codebooks
        assert num_frames == max(len(stream) // chosen.num_codebooks - corners, 0)
    for back_T, codes_T, length in zip(back_KT, codes_KT, lengths, strict=True):
        np.testing.assert_array_equal(back_T[:length], codes_T[:length])


@pytest.mark.parametrize("wrong", [7, 99, -1])
def test_a_code_out_of_place_is_that_of_the_frame_before(wrong):
    assert pattern("flattened").codes_of(np.array([1, 7, 10, wrong, 4, 9]))[0].tolist() == [1, 1]


def test_a_missing_first_code_is_0():
    assert pattern("flattened").codes_of(np.array([99, 7, 10, 2, 4, 9]))[0].tolist() == [0, 2]


def test_a_filler_inside_counts_as_missing():
    stream = pattern("delayed").stream(CODES_KT)
    stream[4] = 12
    assert pattern("delayed").codes_of(stream)[1].tolist() == [0, 0]


def test_only_delayed_has_a_filler():
    assert {name: pattern(name).vocab_size for name in ARRANGEMENTS} == {"flattened": 12, "delayed": 13, "parallel": 12}
