"""What a run's layout depends on, gathered from its parts."""

from collections.abc import Iterable
from dataclasses import replace

from triptych.configs.token_data import SourceConfig
from triptych.data_pipelines.stream.sequences import SIDES, SequenceLayout
from triptych.data_pipelines.vocabulary import MODALITIES, Modality, Task
from triptych.models.trimodal.config import TrimodalConfig
from triptych.trainer.fit_config import FitConfig
from triptych.trainer.parallel.plan import ModelSizes, Plan
from triptych.trainer.scaling.config import RunFacts
from triptych.trainer.scaling.scaling import hyper_parameters


def layout_plan(model: TrimodalConfig, fit: FitConfig, *, world_size: int, rows_together: int) -> Plan:
    """A run as `require_layout` judges it. rows_together: copies of a sequence, which stay on one rank.

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
            sequence_length=model.sequence_length,
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


def predicted_shares(layout: SequenceLayout, sources: Iterable[SourceConfig]) -> dict[Modality, float]:
    """Of all positions, padding too, the share that is of each modality and to be predicted; conditions are given."""
    shares = dict.fromkeys(MODALITIES, 0.0)
    sequences: list[tuple[Task, float]] = [
        (source.task, source.weight / layout.num_tokens(source.task)) for source in sources
    ]
    total = sum(number for _, number in sequences)
    for task, number in sequences:
        if task == "text":
            shares["text"] += number / total
        else:
            target = SIDES[task][1]
            shares[target] += number / total * layout.regions.of(target) / layout.sequence_length
    return shares


def tokens_per_sequence(layout: SequenceLayout, sources: Iterable[SourceConfig]) -> float:
    """Mean positions of a sequence that are not padding, over sources whose weights are shares of the tokens."""
    shares = [(source.weight, layout.num_tokens(source.task)) for source in sources]
    return sum(weight for weight, _ in shares) / sum(weight / length for weight, length in shares)
