"""What a run's layout depends on, gathered from its parts."""

from dataclasses import replace

from triptych.configs.token_data import TokenDataConfig
from triptych.data_pipelines.stream.sequences import SIDES, SequenceLayout
from triptych.data_pipelines.stream.shares import weight_at
from triptych.data_pipelines.vocabulary import MODALITIES, Modality, Task
from triptych.models.trimodal.config import TrimodalConfig
from triptych.trainer.fit_config import FitConfig
from triptych.trainer.parallel.plan import ModelSizes, Plan
from triptych.trainer.scaling.config import RunFacts
from triptych.trainer.scaling.scaling import hyper_parameters


def layout_plan(model: TrimodalConfig, fit: FitConfig, *, world_size: int, row_length: int, rows_together: int) -> Plan:
    """A run as `require_layout` judges it. row_length: positions. rows_together: copies of a row, which stay on one
    rank.

    A batch that is rounded to what divides, a schedule's, an automatic or a fractional one, is judged by the smallest
    that does.
    """
    plan = Plan(
        layout=fit.parallel,
        world_size=world_size,
        zero_stage=fit.engine.zero_stage,
        precision=fit.engine.precision,
        batch=fit.logical_batch,
        micro_batch=fit.micro_batch_per_dp_rank,
        model=ModelSizes(
            num_layers=model.num_layers,
            num_attention_heads=model.num_attention_heads,
            num_query_groups=model.num_query_groups,
            ffn_hidden_size=model.ffn_hidden_size,
            row_length=row_length,
            vocabulary_sizes=(model.embedding_rows, *(model.head_columns(modality) for modality in MODALITIES)),
        ),
        rows_together=rows_together,
    )
    if fit.physical_batch == "logical" and fit.scaling.base_tokens is None:
        return plan
    logical = hyper_parameters(fit, RunFacts()).logical_batch
    if fit.physical_batch == "logical" and logical.is_integer():
        return replace(plan, batch=int(logical), batch_setting="physical_batch")
    if isinstance(fit.physical_batch, int):
        return replace(plan, batch=fit.physical_batch, batch_setting="physical_batch")
    return replace(plan, batch=max(1, plan.batch_unit), batch_setting="physical_batch")


def predicted_shares(layout: SequenceLayout, data: TokenDataConfig) -> dict[Modality, float]:
    """Of all positions, padding too, the share that is of each modality and to be predicted; conditions are given."""
    shares = dict.fromkeys(MODALITIES, 0.0)
    sources = [source for source in data.sources.values() if weight_at(source.weight, 0) > 0]
    row_length = data.row_length(layout.sequence_length)
    rows = [weight_at(source.weight, 0) / tokens_of_row(layout, data, source.task) for source in sources]
    for source, number in zip(sources, rows, strict=True):
        share = number / sum(rows) * tokens_of_row(layout, data, source.task) / row_length
        if source.task == "text":
            shares["text"] += share
        else:
            target = SIDES[source.task][1]
            shares[target] += share * layout.regions.of(target) / layout.longest(source.task)
    return shares


def tokens_of_row(layout: SequenceLayout, data: TokenDataConfig, task: Task) -> int:
    """Positions of a task's row that are not padding, about: as if all its documents were of the longest kind, except
    where their lengths vary, which lets them fill a row.
    """
    row_length, longest = data.row_length(layout.sequence_length), layout.longest(task)
    if task == "text":
        return row_length
    if data.packing.rows == "none":
        return longest
    return row_length if layout.regions.condition_multiple is not None else row_length // longest * longest


def tokens_per_row(layout: SequenceLayout, data: TokenDataConfig) -> float:
    """Mean positions of a row that are not padding, over sources whose weights, at the beginning of the run, are shares
    of the tokens.
    """
    shares = [
        (weight_at(source.weight, 0), tokens_of_row(layout, data, source.task)) for source in data.sources.values()
    ]
    return sum(weight for weight, _ in shares) / sum(weight / length for weight, length in shares)
