"""Writing a Hugging Face folder: weights, settings, tokenizers, and the code that reads them without us."""

import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import yaml

from triptych.configs.tree import to_mapping
from triptych.configs.trimodal import TrimodalRun
from triptych.data_pipelines.vocabulary import MODALITIES
from triptych.kernels.flash_sigmoid.problem import minus_log
from triptych.launch.conversion.card import model_card
from triptych.launch.conversion.layout import CONFIG, GENERATION, INDEX, MODEL, RUN, TOKENIZERS
from triptych.launch.conversion.sources import Source
from triptych.launch.conversion.text_tokenizer import write_text_tokenizer
from triptych.models.hugging_face.files import AUTO_MAP, remote_code
from triptych.trainer.checkpoint.disk.files import write_tensors, write_text
from triptych.trainer.checkpoint.disk.writing import by_size
from triptych.trainer.checkpoint.foreign.weights import Weights

Precision = Literal["fp32", "bf16"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(kw_only=True, slots=True, frozen=True)
class FolderConfig:
    """max_shard_gib: of one file of weights; a larger tensor has one of its own. precision: of the weights."""

    max_shard_gib: float = 5.0
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        if not 0 < self.max_shard_gib < math.inf:
            raise ValueError(f"--max-shard-gib {self.max_shard_gib} is not above 0; 5 is usual")


def write_hugging_face(folder: Path, source: Source, config: FolderConfig) -> None:
    """Fill an empty folder. ValueError for tokenizers that are missing; OSError if the disk refuses."""
    run = source.run
    for modality in MODALITIES:
        if not (source.tokenizers / modality).is_dir():
            raise ValueError(
                f"{source.tokenizers / modality} is missing; name the folder with the tokenizers, --set data.folder=..."
            )
        shutil.copytree(source.tokenizers / modality, folder / TOKENIZERS / modality)
    write_text_tokenizer(folder / TOKENIZERS / "text", folder, run.model.sequence_length)
    for name, text in remote_code().items():
        write_text(folder / name, text.encode())
    settings = yaml.safe_dump({"run": to_mapping(run)}, sort_keys=False, allow_unicode=True)
    _write_json(folder / CONFIG, model_config(run, config.precision, source.tokens))
    _write_json(folder / GENERATION, generation_config(run))
    write_text(folder / RUN, settings.encode())
    write_text(folder / "README.md", model_card(run, source.weights.shapes, source.tokens).encode())
    _write_weights(folder, source.weights, config)


def model_config(run: TrimodalRun, precision: Precision, tokens: int | None) -> dict[str, Any]:
    """`config.json`: the model's shape with everything that follows from it resolved to numbers."""
    model, attention = run.model, run.model.attention
    bias = minus_log(model.sequence_length) if attention.bias == "-log n" else float(attention.bias)
    sizes = ("sequence_length", "hidden_size", "num_layers", "num_attention_heads", "num_query_groups")
    more = ("ffn_hidden_size", "vocabulary_multiple", "positions", "rope_base", "norm_epsilon", "branch_scale")
    last = ("post_attention_norm", "dropout")
    return {
        "architectures": ["TriptychModel"],
        "auto_map": AUTO_MAP,
        "model_type": "triptych",
        "dtype": str(DTYPES[precision]).removeprefix("torch."),
        "vocabulary": to_mapping(model.vocabulary),
        "regions": to_mapping(run.data.regions),
        **{name: getattr(model, name) for name in (*sizes, *more, *last)},
        "layer_scale": model.layer_scale is not None,
        "attention": {
            "function": attention.function,
            "bias": bias,
            "learned_bias": attention.learned_bias,
            "qk_norm": attention.qk_norm,
        },
        "tie_word_embeddings": False,
        "trained_tokens": tokens,
    }


def generation_config(run: TrimodalRun) -> dict[str, Any]:
    """`generation_config.json`: the run's samplers."""
    return {"sampling": to_mapping(run.sampling), "batch_size": run.evaluation.batch_size}


def _write_weights(folder: Path, weights: Weights, config: FolderConfig) -> None:
    dtype = DTYPES[config.precision]
    files = by_size(weights.shapes, int(config.max_shard_gib * 2**30), dtype.itemsize)
    names = [MODEL] if len(files) == 1 else [_shard(number, len(files)) for number in range(len(files))]
    for name, keys in zip(names, files, strict=True):
        shapes = {key: weights.shapes[key] for key in keys}
        write_tensors(folder / name, shapes, map(weights.read, keys), dtype, {"format": "pt"})
    if len(files) > 1:
        total = dtype.itemsize * sum(math.prod(shape) for shape in weights.shapes.values())
        where = {key: name for name, keys in zip(names, files, strict=True) for key in keys}
        _write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": where})


def _shard(number: int, count: int) -> str:
    return f"model-{number + 1:05d}-of-{count:05d}.safetensors"


def _write_json(path: Path, content: Any) -> None:
    write_text(path, (json.dumps(content, indent=2) + "\n").encode())
