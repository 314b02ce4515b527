"""The predicted activations are what autograd saves, to the byte."""

from dataclasses import replace

import pytest
import torch

from triptych.data_pipelines.vocabulary import Vocabulary
from triptych.kernels.philox import Stream
from triptych.launch.planning.model.activations import activation_bytes, layer_bytes, layers_in_flight
from triptych.launch.planning.model.workload import Head, Layout, Rows, Shape, Workload
from triptych.models.attention.config import AttentionConfig
from triptych.models.diffusion.inputs import DiffusionInputs, RowKeys
from triptych.models.trimodal.config import TrimodalConfig
from triptych.models.trimodal.execution import Execution
from triptych.models.trimodal.model import TrimodalTransformer
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement

ROWS, POSITIONS = 3, 24
MODEL = TrimodalConfig(
    vocabulary=Vocabulary(text=40, image=12, audio=20),
    sequence_length=POSITIONS,
    hidden_size=64,
    num_layers=3,
    num_attention_heads=4,
    num_query_groups=2,
    ffn_hidden_size=112,
)
PICKED = 6  # rows of each head
VARIANTS = {
    "softmax": {},
    "sigmoid": {"attention": AttentionConfig(function="sigmoid")},
    "dropout": {"dropout": 0.1},
    "layer scale": {"layer_scale": 1e-4},
    "norm behind attention": {"post_attention_norm": "rms"},
    "no norms of queries and keys": {"attention": AttentionConfig(qk_norm="none")},
    "as many keys as queries": {"num_query_groups": 4},
}


@pytest.fixture(scope="module")
def groups():
    with process_groups(Placement()) as opened:
        yield opened


def saved_bytes(groups, config, recompute, dtype):
    """Of all storages that a forward pass saves, parameters left out."""
    model = TrimodalTransformer(config, groups.collection, Execution(recompute=recompute))
    model.initialise(seed=0)
    model.to(dtype).train()
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept, sizes = [], {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept.append(tensor)
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    inputs = DiffusionInputs(
        tokens_BS=torch.arange(POSITIONS).repeat(ROWS, 1),
        rows={modality: torch.arange(PICKED) for modality in ("text", "image", "audio")},
        padding_BS=None,
        keys=RowKeys(
            stream=Stream(seed=0),
            samples_B3=torch.zeros(ROWS, 3, dtype=torch.int64),
            copies_B=torch.zeros(ROWS, dtype=torch.int64),
        ),
    )
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(inputs)
    return sum(sizes.values())


def workload(config, recompute, dtype):
    return Workload(
        shape=Shape(
            num_layers=config.num_layers,
            hidden_size=config.hidden_size,
            num_heads=config.num_attention_heads,
            num_groups=config.num_query_groups,
            ffn_hidden_size=config.ffn_hidden_size,
            gated=True,
            embedding_rows=config.embedding_rows,
            heads=(Head(columns=1),),
            qk_norm=config.attention.qk_norm == "rms",
            post_norm=config.post_attention_norm == "rms",
            layer_scale=config.layer_scale is not None,
            dropout=config.dropout > 0,
            softmax=config.attention.function == "softmax",
        ),
        rows=Rows.of_one(POSITIONS, causal=False),
        layout=Layout(),
        batch=ROWS,
        micro_batch=ROWS,
        recompute=recompute,
        precision="fp32" if dtype is torch.float32 else "bf16",
    )


def one_layers_bytes(groups, config, recompute, dtype):
    """What one more layer saves: the ends of the model drop out."""
    deeper = replace(config, num_layers=config.num_layers + 1)
    whole = saved_bytes(groups, deeper, recompute, dtype) - saved_bytes(groups, config, recompute, dtype)
    return whole


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_layer_saves_what_is_predicted(groups, variant, dtype):
    config = replace(MODEL, **VARIANTS[variant])
    measured = one_layers_bytes(groups, config, "none", dtype)
    assert layer_bytes(workload(config, "none", dtype), "cpu") == measured


def test_full_recomputation_keeps_the_input_of_a_layer(groups):
    measured = one_layers_bytes(groups, MODEL, "full", torch.float32)
    assert layer_bytes(workload(MODEL, "full", torch.float32), "cpu") == measured


def test_recomputing_attention_saves_but_its_normalisers(groups):
    """And keeps a few bytes of its own, the state of a generator."""
    measured = one_layers_bytes(groups, MODEL, "selective", torch.float32)
    assert measured - layer_bytes(workload(MODEL, "selective", torch.float32), "cpu") == pytest.approx(0, abs=8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_the_ends_save_picked_rows_and_indices(groups, dtype):
    """Without logits, which the loss saves."""
    width, hidden, picked = 4 if dtype is torch.float32 else 2, MODEL.hidden_size, 3 * PICKED
    rows = picked * (hidden * (2 * 4 + width) + 4 + 8) + 8 * ROWS * POSITIONS  # reciprocals, indices; tokens
    layers = MODEL.num_layers * layer_bytes(workload(MODEL, "none", dtype), "cpu")
    assert saved_bytes(groups, MODEL, "none", dtype) == layers + rows


def pipelined(pipeline, virtual, micro_batches):
    work = workload(replace(MODEL, num_layers=24), "none", torch.float32)
    layout = Layout(pipeline=pipeline, virtual=virtual)
    return replace(work, layout=layout, batch=micro_batches, micro_batch=1)


@pytest.mark.parametrize(
    ("pipeline", "virtual", "micro_batches", "stage", "expected"),
    [
        (4, 1, 8, 0, 4 * 6),  # 1F1B: as many micro-batches as stages from here on
        (4, 1, 8, 3, 1 * 6),
        (4, 1, 2, 0, 2 * 6),  # no more than there are
        (4, 2, 8, 0, (2 * 3 + 4 + 1) * 3),  # interleaved: L (1 + (p - 1)/(p m)), Korthikanti et al. 2022, section 4.2.3
        (4, 2, 8, 3, (4 + 1) * 3),
    ],
)
def test_layers_in_flight_follow_the_schedule(pipeline, virtual, micro_batches, stage, expected):
    assert layers_in_flight(pipelined(pipeline, virtual, micro_batches), stage) == expected


def test_sequence_parallelism_splits_everything_over_the_tensor_ranks():
    work = replace(workload(MODEL, "none", torch.float32), precision="bf16")
    split = replace(work, layout=Layout(tensor=2, sequence=True))
    angles = 4 * POSITIONS * 16 * 2  # are whole on each
    assert layer_bytes(split, "cuda") - angles == (layer_bytes(work, "cuda") - angles) / 2


def test_only_the_last_stage_keeps_logits():
    work = pipelined(4, 1, 8)
    assert activation_bytes(work, 0).heads == 0 < activation_bytes(work, 3).heads
