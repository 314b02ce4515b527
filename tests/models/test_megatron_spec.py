"""megatron-core's own GPT layers with sigmoid attention: built from stock specs, alone and on tensor- or
context-parallel ranks.
"""

import pytest
import torch
import torch.distributed as dist
from gloo_processes import Processes
from megatron.core import parallel_state
from megatron.core.inference.contexts import StaticInferenceContext
from megatron.core.models.gpt import GPTModel
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_decoder_block_spec, get_gpt_layer_local_spec
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.transformer import ModuleSpec, TransformerConfig, TransformerLayer
from megatron.core.transformer.dot_product_attention import DotProductAttention
from megatron.core.transformer.spec_utils import build_module, import_module
from megatron.core.transformer.transformer_block import TransformerBlock

from triptych.models.attention.context_parallel import part_of_rank
from triptych.models.attention.megatron_spec import sigmoid_layer_spec, with_sigmoid_attention
from triptych.models.attention.sigmoid import SigmoidCoreAttention
from triptych.models.sharding import sharding_of
from triptych.trainer.parallel.cpu import run_megatron_on_cpu
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.layout import ParallelLayout
from triptych.trainer.parallel.placement import Placement

LENGTH, ROWS, HEADS, VOCABULARY = 8, 2, 4, 32


def configured(**fields):
    return TransformerConfig(
        **{
            "num_layers": 2,
            "hidden_size": 32,
            "num_attention_heads": HEADS,
            "num_query_groups": 2,
            "ffn_hidden_size": 48,
            "attention_dropout": 0.0,
            "hidden_dropout": 0.0,
            "use_cpu_initialization": True,
            "bias_dropout_fusion": False,
            "gradient_accumulation_fusion": False,
            "transformer_impl": "local",
            **fields,
        }
    )


def gpt(spec, collection, **fields):
    """The same weights whatever the number of ranks: megatron draws the whole and keeps a part. Learned biases are set
    apart, head by head.
    """
    torch.manual_seed(3)
    model = GPTModel(
        config=configured(**fields),
        transformer_layer_spec=spec,
        vocab_size=VOCABULARY,
        max_sequence_length=LENGTH,
        position_embedding_type="learned_absolute",
        pg_collection=collection,
    )
    for name, parameter in model.named_parameters():
        if name.endswith("head_bias"):
            parameter.data.copy_(torch.linspace(-2, 2, HEADS).chunk(collection.tp.size())[collection.tp.rank()])
    return model


def tokens():
    draw = torch.randint(VOCABULARY, (ROWS, LENGTH + 1), generator=torch.Generator().manual_seed(1))
    return draw[:, :-1], draw[:, 1:]


def loss_of(model, **named):
    inputs_BS, labels_BS = tokens()
    positions_BS = torch.arange(LENGTH).expand(ROWS, -1)
    return model(inputs_BS, positions_BS, None, labels=labels_BS, **named)


def learned():
    return with_sigmoid_attention(get_gpt_layer_local_spec(), learned_bias="per_head")


def trained(groups):
    """Losses and gradients of a model whose attention learns its biases, and how each parameter is split."""
    model = gpt(learned(), groups.collection, tensor_model_parallel_size=groups.layout.tensor)
    losses = loss_of(model)
    losses.mean().backward()
    split = {name: sharding_of(parameter).dim for name, parameter in model.named_parameters()}
    saved = model.sharded_state_dict(metadata={"dp_cp_group": groups.collection.dp_cp})
    shapes = {
        key: (tuple(x.global_shape), tuple(x.global_offset)) for key, x in saved.items() if key.endswith("head_bias")
    }
    return losses.detach(), {name: p.grad for name, p in model.named_parameters()}, split, shapes


def trained_on_tensor_ranks():
    rank = dist.get_rank()
    with process_groups(Placement(rank=rank, world_size=2, local_rank=rank), ParallelLayout(tensor=2)) as groups:
        return trained(groups)


@pytest.fixture(scope="module")
def groups():
    with process_groups(Placement()) as opened:
        yield opened


@pytest.fixture(scope="module")
def alone(groups):
    return trained(groups)


@pytest.fixture(scope="module")
def on_two(tmp_path_factory):
    return Processes(tmp_path_factory.mktemp("ranks"))(trained_on_tensor_ranks, 2)


def test_every_layer_has_the_attention(groups):
    cores = [layer.self_attention.core_attention for layer in gpt(learned(), groups.collection).decoder.layers]
    assert [type(core) for core in cores] == [SigmoidCoreAttention] * 2


def test_two_tensor_ranks_compute_what_one_does(alone, on_two):
    for losses, *_ in on_two:
        torch.testing.assert_close(losses, alone[0], rtol=1e-5, atol=1e-5)


def test_every_gradient_of_two_tensor_ranks_is_that_of_one(alone, on_two):
    (_, first, split, _), (_, second, _, _) = on_two
    for name, wanted in alone[1].items():
        both = (first[name], second[name])
        if split[name] is None:
            torch.testing.assert_close(both[0], both[1], msg=name)
            found = both[0]
        else:
            found = torch.cat(both, split[name])
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6, msg=name)


def test_learned_biases_have_gradients_of_their_heads(alone):
    gradients = [grad for name, grad in alone[1].items() if name.endswith("head_bias")]
    assert [grad.shape for grad in gradients] == [(HEADS,)] * 2
    assert all((grad.abs() > 0).all() for grad in gradients)


def test_learned_biases_are_sharded_in_checkpoints(alone, on_two):
    keys = [f"decoder.layers.{i}.self_attention.core_attention.head_bias" for i in range(2)]
    assert [alone[3][key] for key in keys] == [((2, HEADS), (i, 0)) for i in range(2)]
    assert [shapes[keys[1]] for *_, shapes in on_two] == [((2, HEADS), (1, 0)), ((2, HEADS), (1, 2))]


def layer_of(spec, collection, **fields):
    """One layer with a bias of its own, the same weights wherever it is built."""
    torch.manual_seed(4)
    return build_module(spec, config=configured(**fields), layer_number=1, pg_collection=collection)


def hidden():
    return torch.randn(LENGTH, ROWS, 32, generator=torch.Generator().manual_seed(6))


def passed_through(layer, hidden_SBH):
    """Output, and gradients of the input and of every parameter."""
    hidden_SBH.requires_grad_()
    output, _ = layer(hidden_SBH, attention_mask=None)
    (output.sin() * output).sum().backward()
    return output.detach(), hidden_SBH.grad, {name: p.grad for name, p in layer.named_parameters()}


def passed_through_context_ranks(recompute):
    run_megatron_on_cpu()
    parallel_state.initialize_model_parallel(context_parallel_size=2, create_gloo_process_groups=False)
    collection = ProcessGroupCollection.use_mpu_process_groups()
    fields = {"recompute_granularity": "selective", "recompute_modules": ["core_attn"]} if recompute else {}
    layer = layer_of(learned(), collection, context_parallel_size=2, **fields)
    rank = dist.get_rank()
    output, grad, grads = passed_through(layer, part_of_rank(hidden(), rank, 2, order="dual_chunk_swap", dim=0))
    for each in grads.values():
        dist.all_reduce(each)
    parallel_state.destroy_model_parallel()
    return output, grad, grads


@pytest.fixture(scope="module")
def layer_alone(groups):
    return passed_through(layer_of(learned(), groups.collection), hidden())


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "gathered again"])
def test_two_context_ranks_compute_what_one_does(run_processes, layer_alone, recompute):
    output, grad, grads = layer_alone
    for rank, (theirs, their_grad, their_grads) in enumerate(run_processes(passed_through_context_ranks, 2, recompute)):
        mine, my_grad = (part_of_rank(x, rank, 2, order="dual_chunk_swap", dim=0) for x in (output, grad))
        torch.testing.assert_close((theirs, their_grad), (mine, my_grad), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(their_grads, grads, rtol=1e-4, atol=1e-5)


def test_the_spec_that_is_given_stays_as_it_is():
    spec = get_gpt_layer_local_spec()
    with_sigmoid_attention(spec)
    assert spec.submodules.self_attention.submodules.core_attention is DotProductAttention


def test_every_layer_of_a_block_is_changed():
    block = get_gpt_decoder_block_spec(configured(), use_transformer_engine=False)
    changed = with_sigmoid_attention(block)
    cores = [layer.submodules.self_attention.submodules.core_attention.module for layer in changed.layer_specs]
    assert cores == [SigmoidCoreAttention] * 2


def test_a_blocks_module_spec_is_changed():
    block = get_gpt_decoder_block_spec(configured(), use_transformer_engine=False)
    changed = with_sigmoid_attention(ModuleSpec(TransformerBlock, submodules=block))
    attention = changed.submodules.layer_specs[0].submodules.self_attention
    assert attention.submodules.core_attention.module is SigmoidCoreAttention


def test_a_spec_without_a_core_attention_is_refused():
    with pytest.raises(ValueError, match="the spec of TransformerLayer has no self-attention with a core attention"):
        with_sigmoid_attention(ModuleSpec(TransformerLayer))


def test_latent_attention_is_refused():
    with pytest.raises(ValueError, match="self-attention of MLASelfAttention"):
        with_sigmoid_attention(get_gpt_layer_local_spec(multi_latent_attention=True))


def test_the_spec_of_the_command_line_is_the_stock_layer(groups):
    spec = import_module(["triptych.models.attention.megatron_spec", "sigmoid_layer_spec"])
    stock = with_sigmoid_attention(get_gpt_layer_local_spec())
    losses = [loss_of(gpt(each, groups.collection)) for each in (spec, stock)]
    assert torch.equal(*losses)


def test_the_spec_of_the_command_line_is_of_dense_layers(groups):
    with pytest.raises(ValueError, match="sigmoid_layer_spec is of dense layers; build the block spec of a mixture"):
        layer_of(sigmoid_layer_spec, groups.collection, num_moe_experts=2, add_bias_linear=False)


def test_generation_in_static_batches_is_the_whole_sequence(groups, monkeypatch):
    def allocated(self, length, rows, dim, dtype):  # megatron's own is on the current CUDA device
        return torch.empty(length, rows, self.num_query_groups_per_partition, dim, dtype=dtype)

    monkeypatch.setattr("megatron.core.transformer.attention.Attention._allocate_memory", allocated)
    layer = layer_of(with_sigmoid_attention(get_gpt_layer_local_spec(), bias=-2.0), groups.collection).eval()
    context = StaticInferenceContext(max_batch_size=ROWS, max_sequence_length=LENGTH)
    steps = []
    with torch.no_grad():
        for part in hidden().split([5, 1, 1, 1]):
            steps.append(layer(part, attention_mask=None, inference_context=context)[0])
            context.sequence_len_offset += len(part)
        torch.testing.assert_close(torch.cat(steps), layer(hidden(), attention_mask=None)[0])


class DynamicContext:
    """As much of megatron's as is asked of it before anything is computed."""

    def is_static_batching(self):
        return False

    def is_dynamic_batching(self):
        return True


@pytest.mark.parametrize("name", ["inference_context", "inference_params"])
def test_dynamic_batching_is_refused(groups, name):
    attention = layer_of(learned(), groups.collection).eval().self_attention
    with pytest.raises(ValueError, match=r"dynamic batching runs softmax kernels, .*; take a static context"):
        attention(hidden(), None, **{name: DynamicContext()})


def test_the_refusing_attention_says_where_it_is_from():
    module = with_sigmoid_attention(get_gpt_layer_local_spec()).submodules.self_attention.module
    assert f"{module.__module__}.{module.__name__}" == "triptych.models.attention.megatron_spec.SigmoidSelfAttention"


def test_flash_decoding_is_refused(groups):
    attention = layer_of(learned(), groups.collection).eval().self_attention
    with pytest.raises(ValueError, match=r"flash_decode runs softmax kernels, .*; turn it off"):
        attention.flash_decode(*[None] * 8)
