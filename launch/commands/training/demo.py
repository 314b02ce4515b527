"""`triptych demo`: the whole system on one machine, from nothing to a report."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from triptych.configs.trimodal import TrimodalRun
from triptych.launch.display import Display, DisplayConfig
from triptych.launch.run_directory import RunDirectory, commit
from triptych.trainer.parallel.groups import Groups
from triptych.trainer.parallel.refusal import require_layout

NUM_STAGES = 6


class Stages:
    """The demo's parts: shown, and timed for the report."""

    def __init__(self, display: Display) -> None:
        self.display = display
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, title: str) -> Iterator[None]:
        started = time.perf_counter()
        with self.display.stage(title):
            yield
        self.seconds[title] = time.perf_counter() - started


def demo(run_dir: Path, data_dir: Path, settings: Sequence[str], *, resume: bool, command: str) -> None:
    """Make what is not there yet, train, sample, judge, report. Stopped at any time, it goes on with --resume."""
    from triptych.configs.registry import named_run
    from triptych.configs.tree import with_settings
    from triptych.trainer.parallel.groups import process_groups
    from triptych.trainer.parallel.placement import Placement

    directory = RunDirectory(folder=run_dir)
    resume = resume and directory.settings.exists()  # stopped before training began: nothing to resume, only to reuse
    base = directory.read() if resume else named_run("trimodal_demo")
    run = with_settings(base, [f"data.folder={data_dir}", *settings])
    require_layout(run.plan(world_size=1))
    if not resume:
        directory.require_unused()
    with process_groups(Placement()) as groups, Display(DisplayConfig(num_stages=NUM_STAGES)) as display:
        stages = Stages(display)
        prepare_data(data_dir, groups, stages)
        if not _train(run, directory, groups, stages, resume=resume, command=command):
            return
        _report(run, directory, groups, stages, command)


def prepare_data(folder: Path, groups: Groups, stages: Stages) -> None:
    """Raw shards, tokenizers and encoded shards under `folder`; what is there already is reused."""
    from triptych.configs.digits import corpus_config, raw_folder
    from triptych.configs.token_data import codes_folder, load_tokenizers, tokenizer_folder
    from triptych.data_pipelines.corpus.make import SOURCES, make_corpus, set_folder
    from triptych.data_pipelines.corpus.splits import SPLITS
    from triptych.data_pipelines.shards.encode import encode_shards
    from triptych.data_pipelines.vocabulary import MODALITIES
    from triptych.launch.commands.data.tokenizer import save_tokenizer, train_tokenizer

    raw = raw_folder(folder)
    with stages("data"):
        make_corpus(raw, corpus_config())
    with stages("tokenizers"):
        for modality in MODALITIES:
            target = tokenizer_folder(folder, modality)
            if not target.exists():
                save_tokenizer(train_tokenizer(modality, raw, [], groups, [stages.display.reporter()]), target)
    with stages("codes"):
        tokenizers = load_tokenizers(folder)
        for source in SOURCES:
            for split in SPLITS:
                target = set_folder(codes_folder(folder), source, split)
                if not target.exists():
                    encode_shards(set_folder(raw, source, split), target, tokenizers)


def _train(
    run: TrimodalRun, directory: RunDirectory, groups: Groups, stages: Stages, *, resume: bool, command: str
) -> bool:
    """Whether the training reached its end."""
    from triptych.launch.training import train

    with stages("training"):
        outcome = train(run, directory, groups, command=command, resume=resume, reporters=[stages.display.reporter()])
    if outcome.stopped:
        stages.display.message(
            f"stopped at {outcome.tokens:,} tokens; go on with: triptych demo --run-dir {directory.folder} --resume"
        )
    return not outcome.stopped


def _report(run: TrimodalRun, directory: RunDirectory, groups: Groups, stages: Stages, command: str) -> None:
    from triptych.configs.digits_evaluation import evaluate_run
    from triptych.launch.demo_report import report_data
    from triptych.launch.report.write import write_report
    from triptych.launch.trained import load_trained
    from triptych.trainer.logs import read_records

    trained = load_trained(directory, run, groups, seed=0)
    with stages("samples and scores"):
        mixture = run.build_mixture(trained.tokenizers, "validation")
        evaluation = evaluate_run(run, trained.generator, trained.tokenizers, mixture)
    records = read_records(directory.log(0), trained.tokens)
    with stages("report"):
        trained_seconds = sum(record.seconds for record in records)
        scores = replace(
            evaluation.scores,
            tokens=trained.tokens,
            tokens_per_second=trained.tokens / trained_seconds,
            seconds=sum(stages.seconds.values()),
            num_parameters=sum(parameter.numel() for parameter in trained.generator.model.parameters()),
            commit=commit(),
        )
        data = report_data(trained, replace(evaluation, scores=scores), records, command=command, stages=stages.seconds)
        page, _ = write_report(data, directory.folder)
    stages.display.message(_summary(data.scores.to_json()))
    stages.display.message(f"open {page}")


def _summary(scores: dict[str, object]) -> str:
    """The numbers that one looks for first."""
    names = (
        *(f"{task}_accuracy" for task in ("t2i", "i2t", "t2s", "s2t")),
        *(f"text_{kind}_bits_per_byte" for kind in ("nelbo", "unigram", "gzip")),
    )
    return "  ".join(f"{name} {scores[name]:.3f}" for name in names if scores.get(name) is not None)
