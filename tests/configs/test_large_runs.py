"""The runs too large for a test: built without memory, counted to the last parameter."""

import pytest
import torch

from triptych.configs.registry import RUNS, named_run
from triptych.models.trimodal.counts import parameter_counts
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement

TOTALS = {"trimodal_320m": 325_340_160, "trimodal_1b": 1_154_029_568, "trimodal_3b": 3_027_133_440}


@pytest.fixture(scope="module")
def counts():
    with process_groups(Placement()) as groups, torch.device("meta"):
        models = {name: named_run(name).build_model(groups) for name in RUNS}
    assert all(parameter.is_meta for model in models.values() for parameter in model.parameters())
    return {name: parameter_counts(model) for name, model in models.items()}


@pytest.mark.parametrize("name", TOTALS)
def test_exact_parameter_counts(counts, name):
    run, found = named_run(name), counts[name]
    model = run.model
    width, kv_width = model.hidden_size, model.num_query_groups * model.head_dim
    assert found["attention"] == model.num_layers * 2 * width * (width + kv_width)
    assert found["mlp"] == model.num_layers * 3 * width * model.ffn_hidden_size
    assert found["embedding"] == model.embedding_rows * width
    assert found["norms"] == model.num_layers * (2 * width + 2 * model.head_dim) + width
    assert sum(found.values()) == TOTALS[name]


def test_the_full_size_is_the_papers():
    run = named_run("trimodal_3b")
    assert (run.model.num_layers, run.model.hidden_size, run.model.head_dim) == (24, 3072, 128)
    assert run.fit.total_tokens == 6_400_000_000_000


@pytest.mark.parametrize("name", RUNS)
def test_width_is_128_per_layer_but_for_the_demo(name):
    model = named_run(name).model
    assert name == "trimodal_demo" or model.hidden_size == 128 * model.num_layers
