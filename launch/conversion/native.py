"""Writing a run's directory with one checkpoint, from which it samples, is evaluated, and begins."""

import shutil
from dataclasses import replace
from pathlib import Path

from triptych.configs.token_data import read_tokenizers, tokenizer_folder
from triptych.data_pipelines.vocabulary import MODALITIES
from triptych.launch.conversion.sources import Source
from triptych.launch.run_directory import RunDirectory
from triptych.trainer.checkpoint.disk.document import Header
from triptych.trainer.checkpoint.disk.folders import checkpoint_folder
from triptych.trainer.checkpoint.disk.writing import write_weights

MOMENTS = ("exp_avg", "exp_avg_sq")


def write_native(folder: Path, target: Path, source: Source, command: str) -> Path:
    """Fill an empty folder, which will be `target`; returns the checkpoint in it.

    The checkpoint is that of a run that has these weights and has seen nothing: token 0, moments zero, data from the
    beginning, so `triptych train --resume` begins from the weights with the run's own warm-up. Tokenizers go to data/
    in it. ValueError for tokenizers that are missing or damaged; OSError if the disk refuses.
    """
    run = source.run
    tokenizers = read_tokenizers(source.tokenizers)
    if source.origin == "hf":
        for modality in MODALITIES:
            shutil.copytree(source.tokenizers / modality, tokenizer_folder(folder / "data", modality))
        run = replace(run, data=replace(run.data, folder=str(target.resolve() / "data")))
    directory = RunDirectory(folder=folder)
    directory.start(run, command)
    directory.checkpoints.mkdir()
    checkpoint = checkpoint_folder(directory.checkpoints, 0)
    header = Header(tokens=0, step=0, logical_updates=0.0, batch=None, cursor={}, identity=run.identity(tokenizers))
    write_weights(checkpoint, source.weights.shapes, source.weights.read, header, zero_parts=MOMENTS)
    return checkpoint
