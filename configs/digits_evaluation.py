"""What `triptych evaluate` measures of a run on the demo's data, and what it generated to do so."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from triptych.configs.digits import Judges, Labelled, load_labelled, load_texts, train_judges
from triptych.configs.token_data import Tokenizers
from triptych.configs.trimodal import TrimodalRun
from triptych.data_pipelines.batch import Batch
from triptych.data_pipelines.corpus.make import Source
from triptych.data_pipelines.corpus.splits import SPLITS
from triptych.data_pipelines.stream.mixture import Mixture
from triptych.data_pipelines.stream.sequences import SIDES
from triptych.data_pipelines.vocabulary import Modality, Task
from triptych.kernels.philox import Stream
from triptych.trainer.evaluation.baselines import (
    bits_per_byte,
    num_utf8_bytes,
    text_gzip_bits_per_byte,
    text_gzip_primed_bits_per_byte,
    text_unigram_bits_per_byte,
)
from triptych.trainer.evaluation.nelbo import Estimate, fixed_noise_metrics
from triptych.trainer.evaluation.proportions import Proportion
from triptych.trainer.evaluation.scores import Scores
from triptych.trainer.evaluation.transcripts import character_error, named_digit
from triptych.trainer.generation import Generator
from triptych.trainer.objectives.masked_diffusion import MaskedDiffusion

SOURCES: Mapping[Task, tuple[Source, Modality]] = {
    "t2i": ("digits", "image"),
    "i2t": ("digits", "image"),
    "t2s": ("speech", "audio"),
    "s2t": ("speech", "audio"),
}
NELBO_SOURCES: Mapping[Modality, str] = {"text": "text", "image": "t2i", "audio": "t2s"}


@dataclass(kw_only=True, slots=True, frozen=True)
class Generated:
    """One task over held-out pairs: `outputs` (images, clips or texts) made from the captions or items of `held_out`.

    named: the digit that a judge or the reader finds in each output, -1 for none.
    """

    held_out: Labelled
    outputs: list[Any]
    named: list[int]

    @property
    def accuracy(self) -> Proportion:
        return Proportion.of(named == digit for named, digit in zip(self.named, self.held_out.digits, strict=True))


@dataclass(kw_only=True, slots=True, frozen=True)
class Evaluation:
    """Scores and what they were measured on. metrics: modality to every held-out metric of the objective."""

    scores: Scores
    generated: Mapping[Task, Generated]
    metrics: Mapping[Modality, Mapping[str, Estimate]]
    judges: Judges


def evaluate_run(run: TrimodalRun, generator: Generator, tokenizers: Tokenizers, mixture: Mixture) -> Evaluation:
    """Score a model on the validation split: likelihood bounds, and one generation per held-out pair and task.

    `mixture` is the run's own over the validation split.
    """
    judges = train_judges(run.data_folder)
    held_out = {
        source: load_labelled(run.data_folder, source, modality, "validation").first(run.evaluation.num_pairs)
        for source, modality in set(SOURCES.values())
    }
    generated: dict[Task, Generated] = {
        task: _generate(task, held_out[source], generator, tokenizers, judges) for task, (source, _) in SOURCES.items()
    }
    metrics: dict[Modality, Mapping[str, Estimate]] = {
        modality: held_out_metrics(
            modality, run, generator.model, run.build_objective("validation"), mixture, generator.device
        )
        for modality in NELBO_SOURCES
    }
    measured: dict[str, Any] = {f"{task}_accuracy": result.accuracy for task, result in generated.items()}
    measured |= {f"{task}_character_error": _character_error(generated[task]) for task in ("i2t", "s2t")}
    scores = Scores(
        **measured,
        **_text_scores(run, tokenizers, metrics["text"]["nelbo/text"].mean),
        judge_image_accuracy=judges.image.accuracy,
        judge_speech_accuracy=judges.speech.accuracy,
        nelbo_nats_per_token={modality: metrics[modality][f"nelbo/{modality}"].mean for modality in metrics},
    )
    return Evaluation(scores=scores, generated=generated, metrics=metrics, judges=judges)


def _generate(
    task: Task, held_out: Labelled, generator: Generator, tokenizers: Tokenizers, judges: Judges
) -> Generated:
    condition, target = SIDES[task]
    inputs = held_out.captions if condition == "text" else held_out.items
    outputs = tokenizers[target].decode(generator.targets(task, tokenizers[condition].encode(inputs)))
    return Generated(held_out=held_out, outputs=outputs, named=_named(target, outputs, judges))


def _named(modality: Modality, outputs: Sequence[Any], judges: Judges) -> list[int]:
    if modality == "text":
        return [-1 if (digit := named_digit(text)) is None else digit for text in outputs]
    judge = judges.image if modality == "image" else judges.speech
    return judge.verdicts(outputs).tolist()


def _character_error(generated: Generated) -> float | None:
    return character_error(zip(generated.held_out.captions, generated.outputs, strict=True))


def held_out_metrics(
    modality: Modality,
    run: TrimodalRun,
    model: nn.Module,
    objective: MaskedDiffusion,
    mixture: Mixture,
    device: torch.device,
) -> dict[str, Estimate]:
    """Every metric of the objective on one source, with noise that never changes.

    `mixture` is the run's own over the validation split.
    """
    whole = mixture.rows(mixture.epoch_of(NELBO_SOURCES[modality])).to(device)
    size = max(1, run.evaluation.batch_size * run.model.sequence_length // run.row_length)

    def batches() -> Iterator[Batch]:
        for start in range(0, len(whole), size):
            yield whole.rows(start, start + size)

    return fixed_noise_metrics(model, objective, batches, Stream(seed=0), num_draws=run.evaluation.num_nelbo_draws)


def _text_scores(run: TrimodalRun, tokenizers: Tokenizers, nats_per_token: float) -> dict[str, Any]:
    """Bits per byte of held-out prose: the model's bound, and what it is held against. END after a document is paid for
    by all.
    """
    train, held_out = (load_texts(run.data_folder, "text", split) for split in SPLITS)
    num_outputs = run.model.vocabulary.num_outputs("text")
    train_ids, held_out_ids = (_with_end(tokenizers["text"].encode(texts)) for texts in (train, held_out))
    num_bytes, num_tokens = num_utf8_bytes(held_out), sum(len(ids) for ids in held_out_ids)
    return {
        "text_nelbo_bits_per_byte": bits_per_byte(nats_per_token * num_tokens, num_bytes),
        "text_unigram_bits_per_byte": text_unigram_bits_per_byte(train_ids, held_out_ids, num_outputs, num_bytes),
        "text_gzip_bits_per_byte": text_gzip_bits_per_byte(held_out),
        "text_gzip_primed_bits_per_byte": text_gzip_primed_bits_per_byte(train, held_out),
    }


def _with_end(documents: Sequence[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    """Ids local to the text range: END is 0, code k is k + 1."""
    return [np.append(codes + 1, 0) for codes in documents]
