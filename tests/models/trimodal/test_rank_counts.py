"""Counts of a rank's parameters against models that are cut, and that are not."""

import dataclasses

import pytest
import torch

from triptych.data_pipelines.vocabulary import Vocabulary
from triptych.models.parameterization import KINDS, VECTORS
from triptych.models.trimodal.config import TrimodalConfig
from triptych.models.trimodal.counts import rank_counts
from triptych.models.trimodal.execution import Execution
from triptych.models.trimodal.model import TrimodalTransformer
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement

CONFIG = TrimodalConfig(
    vocabulary=Vocabulary(text=50, image=20, audio=30),
    sequence_length=12,
    hidden_size=32,
    num_layers=4,
    num_attention_heads=4,
    num_query_groups=2,
    ffn_hidden_size=56,
    vocabulary_multiple=8,
    positions="rotary_and_learned",
)
STAGES = {"first": {0, 1}, "interleaved": {0, 2}, "middle": {2}, "last": {2, 3}, "all": {0, 1, 2, 3}}


@pytest.fixture(scope="module")
def build():
    with process_groups(Placement()) as groups, torch.device("meta"):
        yield lambda config=CONFIG, layers=None: TrimodalTransformer(
            config, groups.collection, Execution(layers=layers)
        )


@pytest.mark.parametrize("layers", [range(2), range(2, 3), range(2, 4)], ids=str)
def test_a_stage_has_the_parameters_of_a_model_cut_to_it(build, layers):
    sizes = [parameter.numel() for parameter in build(layers=layers).parameters()]
    assert sum(rank_counts(build(), 4, layers, 1).values()) == sum(sizes)


@pytest.mark.parametrize("stage", STAGES)
def test_tensor_parallel_ranks_share_all_but_norms_and_positions(build, stage):
    whole, split = (rank_counts(build(), 4, STAGES[stage], num_ranks) for num_ranks in (1, 2))
    positions = CONFIG.sequence_length * CONFIG.hidden_size
    shared = {kind: size if kind in VECTORS else 0 for kind, size in whole.items()} | {"embedding": positions}
    assert split == {kind: shared[kind] + (size - shared[kind]) / 2 for kind, size in whole.items()}


def test_kinds_that_a_stage_has_come_in_their_order(build):
    whole = rank_counts(build(), 4, {0, 1, 2, 3}, 1)
    kinds = list(rank_counts(build(), 4, {2, 3}, 1))
    assert kinds == [kind for kind in KINDS if kind in whole and kind != "embedding"]


def test_a_kind_has_its_own_parameters(build):
    sizes = rank_counts(build(), 4, {0, 3}, 1)
    assert (sizes["attention_in"], sizes["query_key_norm"]) == (2 * 32 * (32 + 2 * 16), 2 * 2 * 8)


def test_the_stages_add_up_to_the_model(build):
    whole = build(dataclasses.replace(CONFIG, post_attention_norm="rms"))
    stages = [rank_counts(whole, 4, layers, 1) for layers in ({0}, {1, 3}, {2})]
    assert sum(sum(stage.values()) for stage in stages) == sum(parameter.numel() for parameter in whole.parameters())
