"""The tiny model trained through `fit` on streams of which something is wrong."""

from dataclasses import replace

import tiny_run

from triptych.data_pipelines.batch import Role
from triptych.models.trimodal.model import TrimodalTransformer
from triptych.trainer.fit import fit
from triptych.trainer.loader.config import LoaderConfig
from triptych.trainer.logs import JsonLines
from triptych.trainer.objectives.masked_diffusion import MaskedDiffusion, MaskedDiffusionConfig
from triptych.trainer.scaling.physical import BatchSchedule

MODEL = replace(tiny_run.MODEL, vocabulary_multiple=2)
RAMP = BatchSchedule(tokens=(0, 500), sequences=(4, 6))


def settings(total_tokens, *, micro=2, batch=RAMP, **loader):
    """A run whose batch changes after 500 tokens."""
    config = tiny_run.config(total_tokens, micro=micro)
    return replace(config, physical_batch=batch, loader=LoaderConfig(**{"timeout_seconds": 60.0} | loader))


def run(groups, config, data, log, *, checkpoints=None, resume=False, stop_after=None):
    """Train, with a log; (records, state)."""
    model = TrimodalTransformer(MODEL, groups.collection)
    model.initialise(seed=3)
    records = []
    with JsonLines(log) as lines:
        state = fit(
            replace(config, parallel=groups.layout),
            chunks=[model],
            objective=MaskedDiffusion(MaskedDiffusionConfig(), tiny_run.VOCABULARY, groups.collection.tp),
            data=data,
            groups=groups,
            checkpoints=checkpoints,
            identity=tiny_run.IDENTITY,
            resume=resume,
            reporters=[lines, records.append],
            note=lines.note,
            stop_requested=lambda: len(records) == stop_after,
        )
    return records, state


def losses(records):
    return [record.metrics["loss"] for record in records]


def seen_ids(data, records, copies=1):
    """(source id, epoch, sample, offset) of every document that the steps' batches hold and that has tokens."""
    seen, cursor = [], {}
    for record in records:
        batch, cursor = data.batch(cursor, record.batch, 0, 1)
        places = batch.places()
        for row, document in (batch.lengths_BD > 0).nonzero().tolist():
            inside_S = (places.document_BS[row] == document) & places.inside_BS[row]
            has_tokens = bool((batch.roles_BS[row][inside_S] != Role.PADDING).any())
            if has_tokens and not batch.copies_B[row]:
                source, sample, epoch = batch.samples_BD3[row, document].tolist()
                seen.append((source, epoch, sample, int(batch.offsets_BD[row, document])))
    return seen
