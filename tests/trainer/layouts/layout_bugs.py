"""Mistakes that a layout can make, each planted into the real code of one process of several, while a run lasts."""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from unittest.mock import patch

import layout_run
import torch.distributed as dist
from deepspeed.runtime.zero import stage_1_and_2
from layout_run import MODEL, SHORT, Cell, quiet_engine, train

from triptych.data_pipelines.stream.mixture import Mixture
from triptych.kernels.philox import Stream
from triptych.models import norms, sharding
from triptych.models.attention.sigmoid import SigmoidCoreAttention
from triptych.models.sharding import Sharding
from triptych.models.trimodal import layers, model
from triptych.trainer.engine import gradients
from triptych.trainer.engine.engine import Engine
from triptych.trainer.engine.model_parallel_unit import ModelParallelUnit
from triptych.trainer.engine.schedule import PipelineSchedule
from triptych.trainer.objectives import masked_diffusion
from triptych.trainer.parallel.agreement.agreement import Agreed, Agreement
from triptych.trainer.parallel.groups import Groups
from triptych.trainer.parallel.layout import ParallelLayout
from triptych.trainer.parallel.watch.obituary import Diverged

TENSOR = Cell(layout=ParallelLayout(tensor=2), micro=8, total_tokens=SHORT)
SEQUENCE = Cell(layout=ParallelLayout(tensor=2, sequence=True), micro=8, total_tokens=SHORT)
PIPELINE = Cell(layout=ParallelLayout(pipeline=2), micro=8, total_tokens=SHORT)
INTERLEAVED = Cell(layout=ParallelLayout(pipeline=2, virtual=2), micro=8, total_tokens=SHORT)
DATA = Cell(data=2, micro=8, total_tokens=SHORT)
SIGMOID_TENSOR = replace(TENSOR, attention="sigmoid")
SIGMOID_SEQUENCE = replace(SEQUENCE, attention="sigmoid")
DATA_AND_PIPELINE = Cell(layout=ParallelLayout(pipeline=2), data=2, micro=8, total_tokens=SHORT)
TENSOR_AND_PIPELINE = Cell(layout=ParallelLayout(tensor=2, pipeline=2, sequence=True), micro=8, total_tokens=SHORT)
TENSOR_AND_DATA = Cell(layout=ParallelLayout(tensor=2, sequence=True), data=2, micro=4, total_tokens=SHORT)


@dataclass(kw_only=True, slots=True, frozen=True)
class Bug:
    """plant: a context in which the code has the mistake. cells: layouts that must turn red."""

    plant: Callable
    cells: tuple[Cell, ...]


@contextmanager
def gradient_of_norms_not_summed(size, module=norms):
    """Weights of `size` elements in their last dimension stay out of `shared_parameter`."""
    original = norms.shared_parameter

    def shared(parameter, group):
        return original(parameter, None if parameter.shape[-1] == size else group)

    with patch.object(module, "shared_parameter", shared):
        yield


@contextmanager
def biases_taken_for_shared():
    """The gradient of each head's bias is summed over the tensor ranks, which have other heads."""
    original = SigmoidCoreAttention._biased

    def biased(self, minus_log_n):
        return norms.shared_parameter(original(self, minus_log_n), self.tp_group)

    with patch.object(SigmoidCoreAttention, "_biased", biased):
        yield


def gradient_norm_of_one_stage():
    return patch.object(ModelParallelUnit, "get_model_parallel_group", lambda self: self._groups.tp)


def replicated_parameters_counted_everywhere():
    return patch.object(stage_1_and_2, "is_model_parallel_parameter", lambda parameter: True)


def replicated_parameters_counted_everywhere_without_zero():
    return patch.object(gradients, "sharding_of", lambda parameter: Sharding(dim=0))


@contextmanager
def noise_keyed_on_the_rank():
    original = Engine.forward_backward

    def forward_backward(self, micro_batches, objective, stream):
        return original(self, micro_batches, objective, Stream(seed=stream.seed + dist.get_rank()))

    with patch.object(Engine, "forward_backward", forward_backward):
        yield


@contextmanager
def times_stratified_per_rank():
    original = masked_diffusion.stratified_times
    num_ranks = dist.get_world_size()

    def stratified(batch, stream, **sizes):
        own = replace(batch, numbers_BD=batch.numbers_BD // num_ranks)
        return original(own, stream, **sizes)

    with patch.object(masked_diffusion, "stratified_times", stratified):
        yield


@contextmanager
def loss_divided_by_the_local_weight():
    original = Groups.sum_over_data

    def sum_over_data(self, values):
        is_weight = values.dim() == 0 and values.is_floating_point()
        return values if is_weight else original(self, values)

    with patch.object(Groups, "sum_over_data", sum_over_data):
        yield


@contextmanager
def without_the_scale_of_data_ranks():
    one_by_one, pipeline = Engine._one_after_another, PipelineSchedule.__call__

    def scaled(method):
        def call(self, prepared, objective, scale):
            return method(self, prepared, objective, scale / self._groups.num_data_ranks)

        return call

    with (
        patch.object(Engine, "_one_after_another", scaled(one_by_one)),
        patch.object(PipelineSchedule, "__call__", scaled(pipeline)),
    ):
        yield


@contextmanager
def every_data_rank_has_the_first_rows():
    original = Mixture.batch
    with patch.object(Mixture, "batch", lambda self, cursor, size, rank, ranks: original(self, cursor, size, 0, ranks)):
        yield


@contextmanager
def vocabulary_offset_of_the_loss():
    original = masked_diffusion.vocabulary_parallel_cross_entropy

    def shifted(logits_RV, labels_R, group, num_ids):
        return original(logits_RV, labels_R - group.rank(), group, num_ids)

    with patch.object(masked_diffusion, "vocabulary_parallel_cross_entropy", shifted):
        yield


@contextmanager
def vocabulary_offset_of_the_embedding():
    original = model._embedding

    def shifted(config, megatron, groups):
        embedding = original(config, megatron, groups)
        embedding.vocab_start_index -= groups.tp.rank()
        embedding.vocab_end_index -= groups.tp.rank()
        return embedding

    with patch.object(model, "_embedding", shifted):
        yield


@contextmanager
def stage_boundary_moved(by):
    """The last stage starts so many layers later, or earlier, than the one before ends."""
    original = layout_run.chunk_layers

    def chunk_layers(layout, num_layers, stage, chunk):
        layers = original(layout, num_layers, stage, chunk)
        return range(layers.start + by, layers.stop) if stage == layout.pipeline - 1 else layers

    with patch.object(layout_run, "chunk_layers", chunk_layers):
        yield


@contextmanager
def chunks_not_interleaved():
    original = layout_run.chunk_layers

    def chunk_layers(layout, num_layers, stage, chunk):
        index = stage * layout.virtual + chunk
        return original(layout, num_layers, index % layout.pipeline, index // layout.pipeline)

    with patch.object(layout_run, "chunk_layers", chunk_layers):
        yield


@contextmanager
def gradient_of_the_gathered_sequence_summed():
    original = model.gather_from_sequence_parallel_region

    def gather(hidden, *, tensor_parallel_output_grad, group):
        return original(hidden, tensor_parallel_output_grad=True, group=group)

    with patch.object(model, "gather_from_sequence_parallel_region", gather):
        yield


@contextmanager
def positions_of_another_rank():
    original = model.shared_parameter

    def rolled(parameter, group):
        shared = original(parameter, group)
        return shared if group is None else shared.roll(len(shared) // group.size(), 0)

    with patch.object(model, "shared_parameter", rolled):
        yield


@contextmanager
def gate_and_up_cut_as_one_block():
    original = sharding.set_tensor_model_parallel_attributes

    def mark(weight, is_parallel, dim, stride):
        original(weight, is_parallel, dim, 1)

    with patch.object(sharding, "set_tensor_model_parallel_attributes", mark):
        yield


@contextmanager
def dropout_without_the_place_in_the_sequence():
    """Every rank of a sequence-parallel group drops as if its part were the first."""
    original = model.DropoutKeys.of.__func__

    def of(cls, stream, samples_B3, copies_B, first_position=0):
        return original(cls, stream, samples_B3, copies_B, 0)

    with patch.object(model.DropoutKeys, "of", classmethod(of)):
        yield


@contextmanager
def recomputed_with_the_latest_keys():
    """A layer run again draws the dropout of the micro-batch that came last, as one with a generator would."""
    keys_of, run, latest = model.TrimodalTransformer._dropout_keys, model._run, []

    def dropout_keys(self, inputs, num_positions):
        latest[:] = [keys_of(self, inputs, num_positions)]
        return latest[0]

    with (
        patch.object(model.TrimodalTransformer, "_dropout_keys", dropout_keys),
        patch.object(model, "_run", lambda layer, keys, *rest, **named: run(layer, latest[0], *rest, **named)),
    ):
        yield


BUGS = {
    "gradient of the norms not summed under sequence parallelism": Bug(
        plant=lambda: gradient_of_norms_not_summed(MODEL.hidden_size), cells=(SEQUENCE, TENSOR_AND_DATA)
    ),
    "gradient of the heads' norms not summed over tensor ranks": Bug(
        plant=lambda: gradient_of_norms_not_summed(MODEL.head_dim), cells=(TENSOR,)
    ),
    "gradient of the positions not summed under sequence parallelism": Bug(
        plant=lambda: gradient_of_norms_not_summed(MODEL.hidden_size, model), cells=(SEQUENCE,)
    ),
    "gradient of the layer scales not summed under sequence parallelism": Bug(
        plant=lambda: gradient_of_norms_not_summed(MODEL.hidden_size, layers), cells=(SIGMOID_SEQUENCE,)
    ),
    "biases per head taken for shared": Bug(plant=biases_taken_for_shared, cells=(SIGMOID_TENSOR,)),
    "gradient norm of one stage": Bug(plant=gradient_norm_of_one_stage, cells=(PIPELINE, TENSOR_AND_PIPELINE)),
    "replicated parameters counted on every tensor rank": Bug(
        plant=replicated_parameters_counted_everywhere, cells=(TENSOR,)
    ),
    "the same without ZeRO": Bug(
        plant=replicated_parameters_counted_everywhere_without_zero, cells=(replace(TENSOR, zero=0),)
    ),
    "noise keyed on the rank": Bug(plant=noise_keyed_on_the_rank, cells=(DATA, PIPELINE)),
    "t stratified per rank": Bug(plant=times_stratified_per_rank, cells=(DATA,)),
    "loss divided by the local weight": Bug(
        plant=loss_divided_by_the_local_weight, cells=(DATA, replace(DATA, zero=0), DATA_AND_PIPELINE)
    ),
    "scale of the data ranks left out": Bug(
        plant=without_the_scale_of_data_ranks, cells=(DATA, replace(DATA, zero=2), DATA_AND_PIPELINE)
    ),
    "every data rank has the first rows": Bug(plant=every_data_rank_has_the_first_rows, cells=(DATA,)),
    "vocabulary offset of the loss": Bug(plant=vocabulary_offset_of_the_loss, cells=(TENSOR,)),
    "vocabulary offset of the embedding": Bug(plant=vocabulary_offset_of_the_embedding, cells=(TENSOR,)),
    "a layer left out between two stages": Bug(plant=lambda: stage_boundary_moved(1), cells=(PIPELINE,)),
    "a layer in two stages": Bug(plant=lambda: stage_boundary_moved(-1), cells=(PIPELINE,)),
    "chunks not interleaved": Bug(plant=chunks_not_interleaved, cells=(INTERLEAVED,)),
    "gradient of the gathered sequence summed": Bug(plant=gradient_of_the_gathered_sequence_summed, cells=(SEQUENCE,)),
    "positions of another rank": Bug(plant=positions_of_another_rank, cells=(SEQUENCE,)),
    "gate and up projections cut as one block": Bug(plant=gate_and_up_cut_as_one_block, cells=(TENSOR,)),
    "dropout without the place in the sequence": Bug(
        plant=dropout_without_the_place_in_the_sequence, cells=(SEQUENCE,)
    ),
    "recomputed with the latest dropout": Bug(
        plant=recomputed_with_the_latest_keys, cells=(replace(PIPELINE, micro=4, recompute="full"),)
    ),
}


def train_planted(runs):
    """`train` for each (cell, name of a bug or None), one after the other in the same processes."""
    with quiet_engine():
        return [_planted(cell, name) for cell, name in runs]


def _planted(cell, name):
    if name is None:
        return train(cell)
    with BUGS[name].plant(), carried_on() as noticed:
        outcome = train(cell)
    return outcome and replace(outcome, noticed=next(iter(noticed), None))


@contextmanager
def carried_on():
    """Ranks that find that they disagree go on, so that the matrix has to see for itself; yields what they said."""
    compare, check_parameters, noticed = Agreement.compare, Agreement.check_parameters, []

    def compare_and_go_on(self, **standing):
        try:
            return compare(self, **standing)
        except Diverged as verdict:
            noticed.append(str(verdict))
        loss, norm = standing["loss"], standing["gradient_norm"]
        return Agreed(loss=loss, gradient_norm=norm, not_finite=None, busy_seconds=[0.0] * len(self.labels))

    def check_and_go_on(self, state):
        try:
            check_parameters(self, state)
        except Diverged as verdict:
            noticed.append(str(verdict))

    with patch.multiple(Agreement, compare=compare_and_go_on, check_parameters=check_and_go_on):
        yield noticed
