import dataclasses

import pytest

from triptych.data_pipelines.vocabulary import MODALITIES, Vocabulary
from triptych.models.parameterization import BaseShape, ShapeRatio
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
BASE_SHAPE = BaseShape(hidden_size=16, num_layers=8, num_attention_heads=2, ffn_hidden_size=28, depth_exponent=0.5)
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


def test_a_model_without_a_base_is_its_own():
    assert CONFIG.shape_ratio == ShapeRatio(width=1.0, depth=1.0)


def test_a_model_is_compared_with_its_base():
    config = dataclasses.replace(CONFIG, base=BASE_SHAPE, residual_scale=0.5)
    assert config.shape_ratio == ShapeRatio(width=2.0, depth=0.25, depth_exponent=0.5)
    assert config.branch_scale == 0.5 * 4**0.5


def test_heads_of_another_size_than_the_base_are_refused():
    base = dataclasses.replace(BASE_SHAPE, num_attention_heads=4)
    with pytest.raises(ValueError, match="make hidden_size / num_attention_heads 4"):
        dataclasses.replace(CONFIG, base=base)


def test_an_ffn_of_another_proportion_than_the_base_is_refused():
    with pytest.raises(ValueError, match="set it near 56, or set base=null"):
        dataclasses.replace(CONFIG, base=BASE_SHAPE, ffn_hidden_size=64)


def test_an_ffn_rounded_to_a_multiple_is_not():
    assert dataclasses.replace(CONFIG, base=BASE_SHAPE, ffn_hidden_size=60).shape_ratio.width == 2


@pytest.mark.parametrize(
    ("change", "mend"),
    [
        ({"num_layers": 0}, "num_layers of the base is 0; set it to 1 or more"),
        ({"num_attention_heads": 3}, "does not divide into 3 heads; give the sizes of the model that was tuned"),
        ({"depth_exponent": 0.4}, "depth_exponent is 0.4; set it to 0.5 .. 1"),
    ],
)
def test_a_base_that_is_no_model_is_refused(change, mend):
    with pytest.raises(ValueError, match=mend):
        dataclasses.replace(BASE_SHAPE, **change)
