"""The estimate of memory, by hand and against the bytes of living tensors in two processes."""

import gc
import itertools
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from allocated_bytes import peak_allocated
from document_rows import one_each
from gloo_processes import Processes

from triptych.data_pipelines.batch import Role
from triptych.data_pipelines.vocabulary import Vocabulary
from triptych.kernels.philox import Stream
from triptych.models.parameterization import KINDS
from triptych.models.trimodal.config import TrimodalConfig
from triptych.models.trimodal.counts import rank_counts
from triptych.models.trimodal.model import TrimodalTransformer
from triptych.trainer.engine import config as engine_config
from triptych.trainer.engine import engine as engine_module
from triptych.trainer.engine.config import EngineConfig
from triptych.trainer.engine.engine import Engine
from triptych.trainer.objectives.masked_diffusion import MaskedDiffusion, MaskedDiffusionConfig
from triptych.trainer.optimizer import MATRICES_AND_VECTORS, AdamWConfig, parameter_groups
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.memory import memory_estimate
from triptych.trainer.parallel.placement import Placement

MODEL = TrimodalConfig(
    vocabulary=Vocabulary(text=3000, image=500, audio=400),
    sequence_length=16,
    hidden_size=256,
    num_layers=4,
    num_attention_heads=4,
    num_query_groups=2,
    ffn_hidden_size=768,
)
VALUES = dict.fromkeys(KINDS, AdamWConfig(peak_learning_rate=1e-3).values)
BUCKET_ELEMENTS = 2_000_000
# Of 2 x 16 positions through 4 layers and the heads, by launch/planning.
ACTIVATIONS = {"fp32": 5 * 2**20, "bf16": 4 * 2**20}
CASES = [(0, "fp32"), (1, "fp32"), (2, "fp32"), (1, "bf16"), (2, "bf16")]


def test_groups_are_filled_up_to_an_even_number_per_rank():
    estimate = memory_estimate([100, 7], zero_stage=1, precision="bf16", data_ranks=4)
    assert (estimate.parameters, estimate.gradients, estimate.optimizer) == (2 * 112, 4 * 112, 12 * 28)


def test_bytes_per_parameter_at_scale():
    sizes = [3_000_000_000 // 64 * 64]
    per_parameter = {
        (zero, precision): (e.total - e.buffers) / sizes[0]
        for zero, precision in CASES
        for e in [memory_estimate(sizes, zero_stage=zero, precision=precision, data_ranks=8)]
    }
    assert per_parameter == {
        (0, "fp32"): 16,
        (1, "fp32"): 4 + 4 + 12 / 8,
        (2, "fp32"): 4 + 4 / 8 + 12 / 8,
        (1, "bf16"): 2 + 4 + 12 / 8,
        (2, "bf16"): 2 + 4 / 8 + 12 / 8,
    }


def test_bf16_without_zero_is_refused():
    with pytest.raises(ValueError, match="use 1 or 2"):
        memory_estimate([10], zero_stage=0, precision="bf16", data_ranks=1)


def test_groups_are_each_filled_up():
    estimate = memory_estimate([9] * 5, zero_stage=2, precision="fp32", data_ranks=2)
    assert (estimate.parameters, estimate.gradients, estimate.optimizer) == (5 * 4 * 12, 5 * 4 * 6, 5 * 12 * 6)


def test_counted_sizes_are_those_of_the_optimizers_groups():
    with process_groups(Placement()) as groups, torch.device("meta"):
        model = TrimodalTransformer(MODEL, groups.collection)
    grouped = [sum(p.numel() for p in group["params"]) for group in parameter_groups(model)]
    assert counted_sizes(model) == grouped


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    return Processes(tmp_path_factory.mktemp("memory"))(measure_all, 2)


@pytest.mark.parametrize(("zero_stage", "precision"), CASES)
def test_the_estimate_is_what_living_tensors_take(measured, zero_stage, precision):
    for rank in measured:
        sizes, left_whole, held = rank[zero_stage, precision]
        estimate = memory_estimate(sizes, zero_stage=zero_stage, precision=precision, data_ranks=2)
        kept = estimate.buffers if zero_stage == 1 else 0  # ZeRO-2 has let go of its buffers by now
        uncounted = 4 * left_whole if (zero_stage, precision) == (2, "fp32") else 0
        assert held - kept - uncounted == pytest.approx(estimate.total - estimate.buffers, rel=0.02)


@pytest.fixture(scope="module")
def peaks(tmp_path_factory):
    return Processes(tmp_path_factory.mktemp("peaks"))(measure_peaks, 2)


@pytest.mark.parametrize(("zero_stage", "precision"), CASES)
def test_the_peak_is_what_the_allocator_gives_out(peaks, zero_stage, precision):
    found = [rank[zero_stage, precision] for rank in peaks]
    estimate = memory_estimate(
        found[0][0],
        zero_stage=zero_stage,
        precision=precision,
        data_ranks=2,
        bucket_elements=BUCKET_ELEMENTS,
        largest_parameter=MODEL.embedding_rows * MODEL.hidden_size,
    )
    predicted = estimate.peak(ACTIVATIONS[precision], num_micro_batches=2)
    measured = max(peak for _, peak in found)
    if zero_stage == 2:
        # Predicted are three buckets at once, for messages that are long under way: 1.00 of it in fp32, 0.82 in bf16.
        assert estimate.total < measured < 1.05 * predicted
    else:
        assert measured == pytest.approx(predicted, rel=0.05)


def test_one_group_alone_is_reduced_in_place():
    alone, two = (
        memory_estimate(sizes, zero_stage=1, precision="bf16", data_ranks=2) for sizes in ([1000], [900, 100])
    )
    assert (alone.reducing, two.reducing) == (0, 4000)


def test_one_micro_batchs_activations_go_as_its_gradients_come():
    estimate = memory_estimate([1000], zero_stage=1, precision="fp32", data_ranks=2, bucket_elements=10**4)
    assert estimate.peak(5000, num_micro_batches=1) == estimate.total + 5000 - 4000
    assert estimate.peak(5000, num_micro_batches=2) == estimate.total + 5000


def measure_all():
    """Case to the sizes of the parameter groups, what partitions leave whole, and the bytes after a backward pass, the
    second of the run.
    """
    rank = dist.get_rank()
    with process_groups(Placement(rank=rank, world_size=2, local_rank=rank)) as groups:
        return {case: measure(groups, *case) for case in CASES}


def measure_peaks():
    """Case to the sizes of the parameter groups, and the most that tensors take from the beginning to the end of the
    second step, with buckets so small that there are three.
    """
    rank = dist.get_rank()
    with process_groups(Placement(rank=rank, world_size=2, local_rank=rank)) as groups:
        return {case: measure_peak(groups, *case) for case in CASES}


def measure_peak(groups, zero_stage, precision):
    sizes = []

    def train():
        model = TrimodalTransformer(MODEL, groups.collection)
        model.initialise(seed=0)
        sizes.extend(counted_sizes(model))
        with (
            mock.patch.object(engine_config, "REDUCE_BUCKET_ELEMENTS", BUCKET_ELEMENTS),
            mock.patch.object(engine_module, "REDUCE_BUCKET_ELEMENTS", BUCKET_ELEMENTS),
        ):
            engine = Engine([model], EngineConfig(zero_stage=zero_stage, precision=precision), groups)
            for update in (1, 2):
                objective = MaskedDiffusion(MaskedDiffusionConfig(), MODEL.vocabulary)
                engine.forward_backward([batch(), batch()], objective, Stream(seed=0))
                engine.step(VALUES, clipping=1.0, num_updates=update)

    gc.collect()
    thresholds = gc.get_threshold()
    gc.set_threshold(20, 2, 2)  # or what the engine leaves in cycles lives on for as long as it happens to
    try:
        return sizes, peak_allocated(train)
    finally:
        gc.set_threshold(*thresholds)


def measure(groups, zero_stage, precision):
    objective = MaskedDiffusion(MaskedDiffusionConfig(), MODEL.vocabulary)
    stream, micro_batches = Stream(seed=0), [batch(), batch()]
    before = living_storages()  # kept, so that none of their addresses is used again
    model = TrimodalTransformer(MODEL, groups.collection)
    model.initialise(seed=0)
    sizes, left_whole = counted_sizes(model), elements_left_whole(model, groups.placement.rank, num_ranks=2)
    engine = Engine([model], EngineConfig(zero_stage=zero_stage, precision=precision), groups)
    engine.forward_backward(micro_batches, objective, stream)
    engine.step(VALUES, clipping=1.0, num_updates=1)
    engine.forward_backward(micro_batches, objective, stream)
    held = sum(storage.nbytes() for at, storage in living_storages().items() if at not in before)
    return sizes, left_whole, held


def counted_sizes(model):
    """As a description of the run has them, of a model that is not split."""
    counts = rank_counts(model, MODEL.num_layers, range(MODEL.num_layers), num_tensor_ranks=1)
    return [sum(counts.get(kind, 0) for kind in kinds) for kinds in MATRICES_AND_VECTORS]


def elements_left_whole(model, rank, num_ranks):
    """Of parameters that a rank's partitions have a part of, the elements that are in other ranks' partitions."""
    elements = 0
    for group in parameter_groups(model):
        sizes = [parameter.numel() for parameter in group["params"]]
        share = -(-sum(sizes) // num_ranks)
        for end, size in zip(itertools.accumulate(sizes), sizes, strict=True):
            own = min(end, (rank + 1) * share) - max(end - size, rank * share)
            elements += size - own if own > 0 else 0
    return elements


def batch(num_rows=2, num_positions=16):
    tokens_BS = torch.arange(num_positions).repeat(num_rows, 1) + MODEL.vocabulary.codes_start("text")
    roles_BS = torch.full_like(tokens_BS, Role.TARGET, dtype=torch.uint8)
    return one_each(tokens_BS, roles_BS, torch.zeros(num_rows, 3, dtype=torch.int64))


def living_storages():
    """Address to storage, of every tensor and gradient."""
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)]
    gradients = [tensor.grad for tensor in tensors if tensor.is_leaf and tensor.grad is not None]
    storages = [tensor.untyped_storage() for tensor in itertools.chain(tensors, gradients)]
    return {storage.data_ptr(): storage for storage in storages}
