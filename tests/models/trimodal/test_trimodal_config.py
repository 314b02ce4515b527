import dataclasses

import pytest

from triptych.data_pipelines.vocabulary import MODALITIES, Vocabulary
from triptych.models.trimodal.config import TrimodalConfig

CONFIG = TrimodalConfig(
    vocabulary=Vocabulary(text=50, image=20, audio=31),  # 120 ids in all
    sequence_length=10,
    hidden_size=32,
    num_layers=2,
    num_attention_heads=4,
    num_query_groups=2,
    ffn_hidden_size=56,
)
FILLED = dataclasses.replace(CONFIG, vocabulary_multiple=16)


def test_nothing_is_filled_up_by_default():
    assert CONFIG.embedding_rows == CONFIG.vocabulary.size == 120
    assert [CONFIG.head_columns(modality) for modality in MODALITIES] == [51, 21, 32]


def test_rows_and_columns_are_filled_up_to_the_next_multiple():
    assert FILLED.embedding_rows == 128
    assert [FILLED.head_columns(modality) for modality in MODALITIES] == [64, 32, 32]


@pytest.mark.parametrize("name", ["vocabulary_multiple", "ffn_hidden_size", "num_layers"])
def test_sizes_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} is 0; set it to 1 or more"):
        dataclasses.replace(CONFIG, **{name: 0})


def test_costs_of_the_ends_by_hand():
    # Per position of a layer: q, k, v, out 2*32*(32+16+16+32), scores and values 2*2*10*32, SwiGLU 3*2*32*56.
    layer = 6144 + 1280 + 10752
    heads = 0.5 * 2 * 32 * (0.5 * 64 + 0.25 * 32)
    assert FILLED.stage_costs({"text": 0.5, "audio": 0.25}) == (0.0, pytest.approx(heads / layer, rel=1e-12))


def test_without_shares_each_modality_has_a_third():
    third = dict.fromkeys(MODALITIES, 1 / 3)
    assert CONFIG.stage_costs() == CONFIG.stage_costs(third)
