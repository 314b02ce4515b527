"""`triptych evaluate`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from triptych.launch.run_directory import RunDirectory


def evaluate(run_dir: Path, out: Path | None, settings: Sequence[str], weights: str) -> None:
    """Score a run's weights, or an average of them, on held-out data; writes evaluation.json beside its checkpoints."""
    from triptych.configs.digits_evaluation import evaluate_run
    from triptych.data_pipelines.shards.atomic import replace_file
    from triptych.launch.trained import open_trained

    target = out or run_dir / "evaluation.json"
    if target.is_dir() or (out and not out.parent.is_dir()):
        raise ValueError(f"--out {target} is a folder, or in none; name a file in a folder that exists")
    with open_trained(RunDirectory(folder=run_dir), settings, seed=0, weights=weights) as trained:
        mixture = trained.run.build_mixture(trained.tokenizers, "validation")
        evaluation = evaluate_run(trained.run, trained.generator, trained.tokenizers, mixture)
        scores = replace(evaluation.scores, weights=trained.weights)
    replace_file(target, (scores.dumps() + "\n").encode())
    Console().print(scores_table(scores.to_json()))
    print(f"written to {target}")


def scores_table(scores: Mapping[str, Any]) -> Table:
    """Every number among the scores, a row per modality where there are several, with the interval of an accuracy."""
    table = Table("score", "value", "95 % interval")
    for name, value in scores.items():
        if name == "confidence" or value is None or isinstance(value, str):
            continue
        rows = {f"{name} {key}": part for key, part in value.items()} if isinstance(value, Mapping) else {name: value}
        entry = scores["confidence"].get(name)
        interval = "{:.3f} to {:.3f}".format(*entry["interval_95"]) if entry else ""
        for label, number in rows.items():
            table.add_row(label, f"{number:.4g}" if isinstance(number, float) else f"{number:,}", interval)
    return table
