"""The counted operations are those that torch counts when the model runs."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from triptych.data_pipelines.vocabulary import MODALITIES, Vocabulary
from triptych.models.attention.config import AttentionConfig
from triptych.models.attention.documents import PackedDocuments
from triptych.models.diffusion.inputs import DiffusionInputs
from triptych.models.trimodal.config import InitConfig, TrimodalConfig
from triptych.models.trimodal.execution import Execution
from triptych.models.trimodal.flops import Flops, forward_flops, recomputed_flops, training_flops, with_dense_head
from triptych.models.trimodal.model import TrimodalTransformer
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement

GROUPED = TrimodalConfig(
    vocabulary=Vocabulary(text=50, image=20, audio=30),
    sequence_length=11,
    hidden_size=32,
    num_layers=3,
    num_attention_heads=4,
    num_query_groups=2,
    ffn_hidden_size=56,
    vocabulary_multiple=8,
    init=InitConfig(readout_std=0.2),
)
WHOLE = replace(GROUPED, num_query_groups=4, vocabulary_multiple=1, post_attention_norm="rms")
NUM_SEQUENCES = 3
PACKED = ((5, 11, 3), (12, 12), (7,))
ROW_LENGTH = 24
SIGMOID = AttentionConfig(function="sigmoid")
ROWS = {"text": 3, "image": 5, "audio": 2}  # of which one is a filler: row 0 again


def kernel_forward(query_shape, key_shape, value_shape, *_, out_shape=None, **__):
    return sdpa_flop_count(query_shape, key_shape, value_shape)


def kernel_backward(gradient_shape, query_shape, key_shape, value_shape, *_, out_shape=None, **__):
    return sdpa_backward_flop_count(gradient_shape, query_shape, key_shape, value_shape)


def in_place(into_shape, left_shape, right_shape, *_, out_shape=None, **__):
    return 2 * math.prod(left_shape) * right_shape[-1]


# torch counts CUDA's kernels; the CPU's do the same.
CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: kernel_forward,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: kernel_backward,
    torch.ops.aten.baddbmm_: in_place,  # in place, of which it knows only the other form
}


@pytest.fixture(scope="module")
def groups():
    with process_groups(Placement()) as opened:
        yield opened


def padded(config):
    """Sequences with padding, and fillers among the rows."""
    tokens_BS = torch.randint(config.vocabulary.size, (NUM_SEQUENCES, config.sequence_length))
    padding_BS = torch.zeros(tokens_BS.shape, dtype=torch.bool)
    padding_BS[1, 7:] = True
    rows = {modality: torch.arange(number) // 2 for modality, number in ROWS.items()}
    return DiffusionInputs(tokens_BS=tokens_BS, rows=rows, padding_BS=padding_BS)


def packed(config):
    """The documents of PACKED in rows, with padding behind some of them."""
    tokens_BS = torch.randint(config.vocabulary.size, (len(PACKED), ROW_LENGTH))
    rows = {modality: torch.arange(number) // 2 for modality, number in ROWS.items()}
    lengths_BD = torch.tensor([(*row, *[0] * (3 - len(row))) for row in PACKED])
    documents = PackedDocuments(lengths_BD=lengths_BD, longest=12)
    return DiffusionInputs(tokens_BS=tokens_BS, rows=rows, padding_BS=None, documents=documents)


def counted(groups, config, *, backward=False, recompute="none", backend=SDPBackend.MATH, inputs=padded):
    """torch's count of a pass."""
    model = TrimodalTransformer(config, groups.collection, Execution(recompute=recompute))
    model.initialise(seed=1)
    with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter, sdpa_kernel(backend):
        logits = model(inputs(config))
        if backward:
            sum(x.square().sum() for x in logits.values()).backward()
    return counter.get_total_flops()


def computed(config):
    return forward_flops(config, [config.sequence_length] * NUM_SEQUENCES, ROWS)


def computed_of_packed(config):
    lengths = [length for row in PACKED for length in row]
    return forward_flops(config, lengths, ROWS, num_positions=len(PACKED) * ROW_LENGTH)


@pytest.mark.parametrize("config", [GROUPED, WHOLE])
def test_a_forward_pass_is_what_torch_counts(groups, config):
    assert computed(config).total == counted(groups, config)


@pytest.mark.parametrize("config", [GROUPED, WHOLE])
def test_a_training_step_is_what_torch_counts(groups, config):
    assert training_flops(computed(config)).total == counted(groups, config, backward=True)


def test_a_step_with_full_recomputation_is_what_torch_counts(groups):
    step = training_flops(computed(GROUPED)) + recomputed_flops(computed(GROUPED), "full")
    assert step.total == counted(groups, GROUPED, backward=True, recompute="full")


def test_a_step_with_selective_recomputation_is_what_torch_counts(groups):
    step = training_flops(computed(GROUPED)) + recomputed_flops(computed(GROUPED), "selective")
    assert step.total == counted(groups, GROUPED, backward=True, recompute="selective")


@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
@pytest.mark.parametrize("config", [GROUPED, WHOLE])
def test_packed_rows_have_attention_within_documents_and_layers_everywhere(groups, config, recompute):
    asked = computed_of_packed(config)
    step = training_flops(asked) + recomputed_flops(asked, recompute)
    assert step.total == counted(groups, config, backward=True, recompute=recompute, inputs=packed)


@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
@pytest.mark.parametrize(("inputs", "asked"), [(padded, computed), (packed, computed_of_packed)])
@pytest.mark.parametrize("config", [GROUPED, WHOLE])
def test_sigmoid_attention_counts_alike_and_its_kernel_computes_scores_twice(groups, config, inputs, asked, recompute):
    config = replace(config, attention=SIGMOID)
    step = training_flops(asked(config)) + recomputed_flops(asked(config), recompute)
    got = counted(groups, config, backward=True, recompute=recompute, inputs=inputs)
    assert got == step.total + asked(config).attention // 2


def test_a_kernel_that_keeps_no_scores_adds_half_a_forward_pass_of_attention(groups):
    """The kernel for whole heads: grouped ones may be left to another."""
    fused = counted(groups, WHOLE, backward=True, backend=SDPBackend.FLASH_ATTENTION)
    assert fused == training_flops(computed(WHOLE)).total + computed(WHOLE).attention // 2


def test_recomputing_nothing_adds_nothing():
    assert recomputed_flops(computed(GROUPED), "none").total == 0


def test_padding_counts_neither_positions_nor_pairs():
    full, half = (forward_flops(GROUPED, [length], {}) for length in (8, 4))
    assert (half.dense * 2, half.attention * 4) == (full.dense, full.attention)


def test_sequences_do_not_attend_to_each_other():
    one = forward_flops(GROUPED, [8], {})
    assert forward_flops(GROUPED, [8, 8], {}) == one.times(2)


def test_a_dense_head_reads_out_the_whole_vocabulary_everywhere():
    dense = with_dense_head(GROUPED, computed(GROUPED), 33)
    assert dense == replace(computed(GROUPED), heads=2 * 32 * GROUPED.embedding_rows * 33)


def test_a_dense_model_has_six_operations_per_parameter_and_token_and_twelve_for_attention(groups):
    """The customary estimate, 6 N + 12 layers * hidden * sequence, of which N leaves the embedding out."""
    config = replace(WHOLE, post_attention_norm="none")
    model = TrimodalTransformer(config, groups.collection)
    layers = sum(p.numel() for name, p in model.named_parameters() if p.dim() == 2 and name.startswith("layers."))
    per_token = 6 * (layers + config.hidden_size * config.embedding_rows) + 12 * 3 * 32 * 11
    step = training_flops(with_dense_head(config, forward_flops(config, [11], {}), 11))
    assert step.total == 11 * per_token


def test_rows_of_every_modality_count_with_their_own_columns():
    rows = forward_flops(GROUPED, [], dict.fromkeys(MODALITIES, 1))
    assert rows == Flops(dense=0, attention=0, heads=2 * 32 * (56 + 24 + 32))
