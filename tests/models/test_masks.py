"""megatron-core's descriptions of masks, in the terms of sigmoid attention."""

from types import SimpleNamespace

import pytest
import torch
from megatron.core.transformer.enums import AttnMaskType

from triptych.kernels.flash_sigmoid.problem import Band
from triptych.models.attention.masks import band_of, key_mask_of, segments_of, without_keys

BANDS = {
    (AttnMaskType.padding, None): Band(),
    (AttnMaskType.no_mask, (3, 2)): Band(left=3, right=2),
    (AttnMaskType.causal, None): Band(right=0, alignment="top_left"),
    (AttnMaskType.padding_causal, (4, 0)): Band(left=4, right=0, alignment="top_left"),
    (AttnMaskType.causal, (4, 7)): Band(left=4, right=0, alignment="top_left"),
    (AttnMaskType.causal_bottom_right, None): Band(right=0),
    (AttnMaskType.padding, (-1, 0)): Band(),  # Transformer Engine's way to say causal, which the type does not
}


@pytest.mark.parametrize(("mask_type", "window"), BANDS)
def test_bands_of_types(mask_type, window):
    assert band_of(mask_type, window) == BANDS[mask_type, window]


def test_an_arbitrary_mask_is_refused():
    with pytest.raises(ValueError, match=r"attn_mask_type is 'arbitrary', .*; give one of no_mask"):
        band_of(AttnMaskType.arbitrary, None)


def of_keys(*lengths, total=5):
    return (torch.arange(total) >= torch.tensor(lengths)[:, None])[:, None, None]


def read(mask, mask_type, num_queries=5):
    return key_mask_of(mask, mask_type, band_of(mask_type, None), num_queries)


@pytest.mark.parametrize("mask_type", [AttnMaskType.padding, AttnMaskType.causal, AttnMaskType.padding_causal])
def test_a_mask_of_keys_is_read(mask_type):
    assert read(of_keys(3, 5), mask_type).tolist() == of_keys(3, 5)[:, 0, 0].tolist()


def test_without_a_mask_nothing_is_masked():
    assert read(None, AttnMaskType.padding) is None


def test_no_mask_means_that_the_mask_is_not_meant():
    assert read(of_keys(3), AttnMaskType.no_mask) is None


@pytest.mark.parametrize(
    ("mask_type", "sizes", "shift"),
    [(AttnMaskType.causal, (5, 5), 0), (AttnMaskType.causal, (3, 5), 0), (AttnMaskType.causal_bottom_right, (3, 5), 2)],
)
def test_the_causal_mask_says_nothing_more_than_its_type(mask_type, sizes, shift):
    mask = torch.ones(2, 1, *sizes, dtype=torch.bool).triu(1 + shift)
    assert read(mask, mask_type, sizes[0]) is None


CAUSAL_55 = torch.ones(2, 1, 5, 5, dtype=torch.bool).triu(1)
DOCUMENTS_5 = torch.tensor([0, 0, 1, 1, 1])
UNREADABLE = {
    "documents of their own": (AttnMaskType.causal, CAUSAL_55 | (DOCUMENTS_5[:, None] != DOCUMENTS_5)),
    "pairs under padding": (AttnMaskType.padding, torch.ones(1, 1, 5, 5, dtype=torch.bool).triu(1)),
    "heads of their own": (AttnMaskType.padding, torch.zeros(1, 2, 1, 5, dtype=torch.bool)),
    "two dimensions": (AttnMaskType.padding, torch.zeros(1, 5, dtype=torch.bool)),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_other_masks_are_refused(name):
    mask_type, mask = UNREADABLE[name]
    with pytest.raises(ValueError, match=r"is neither one of keys .* nor the causal one; leave it out"):
        read(mask, mask_type)


def test_a_mask_of_numbers_is_refused():
    with pytest.raises(ValueError, match=r"attention_mask is torch\.float32; give bool, True where a key"):
        read(of_keys(3).float(), AttnMaskType.padding)


def test_a_mask_of_other_keys_is_refused():
    with pytest.raises(ValueError, match="attention_mask has 5 keys and there are 4; make them alike"):
        without_keys(torch.zeros(4, 1, 2, 3), of_keys(3)[:, 0, 0])


def packed(**fields):
    """PackedSeqParams as one version has them; others miss what is not given."""
    cu_seqlens = torch.tensor([0, 2, 7], dtype=torch.int32)
    defaults = {"qkv_format": "thd", "cu_seqlens_q": cu_seqlens, "cu_seqlens_kv": cu_seqlens}
    return SimpleNamespace(**(defaults | {"max_seqlen_q": 5, "max_seqlen_kv": 5} | fields))


def test_packed_sequences_become_segments():
    segments = segments_of(packed(), band_of(AttnMaskType.padding_causal, None), 7, 7)
    assert segments.table_N6.tolist() == [[0, 0, 2, 0, 2, 0], [0, 2, 5, 2, 5, 0]]


def test_gaps_between_packed_sequences_are_left_out():
    padded = torch.tensor([0, 4, 12], dtype=torch.int32)
    params = packed(cu_seqlens_q_padded=padded, cu_seqlens_kv_padded=padded)
    segments = segments_of(params, Band(), 12, 12)
    assert segments.table_N6.tolist() == [[0, 0, 2, 0, 2, 0], [0, 4, 5, 4, 5, 0]]


@pytest.mark.parametrize(("given", "found"), [(None, 9), (torch.tensor(5), 5), (5, 5)])
def test_a_maximal_length_may_be_a_tensor_or_missing(given, found):
    segments = segments_of(packed(max_seqlen_q=given, max_seqlen_kv=given), Band(), 9, 9)
    assert (segments.max_query_length, segments.max_key_length) == (found, found)


def test_keys_without_offsets_of_their_own_have_the_queries():
    assert segments_of(packed(cu_seqlens_kv=None), Band(), 7, 7).table_N6[:, 4].tolist() == [2, 5]
    with_gaps = packed(cu_seqlens_kv=None, cu_seqlens_q_padded=torch.tensor([0, 4, 12], dtype=torch.int32))
    assert segments_of(with_gaps, Band(), 12, 12).table_N6[:, 3].tolist() == [0, 4]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"qkv_format": "sbhd"}, "packed sequences come as 'sbhd'; pack them in one row"),
        ({"local_cp_size": 2}, "a context-parallel group of their own, .*; set context parallel size to 1"),
    ],
)
def test_other_packings_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        segments_of(packed(**fields), Band(), 7, 7)
