"""A whole world in miniature: raw shards, tokenizers, encoded shards and settings of a run that trains in seconds."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NUM_TRAIN, NUM_VALIDATION = 30, 10
SECONDS = 0.3
TASKS = ("t2i", "i2t", "t2s", "s2t", "text")


class World:
    """Folders of a world: `data` holds raw/, tokenizers/ and codes/."""

    def __init__(self, folder):
        self.data = folder / "data"
        self.runs = folder / "runs"

    def settings(self, **changes):
        """Arguments `--set path=value` of a run of 15 steps; dots in the names of `changes` are written as __."""
        vocabulary = json.loads((self.data / "tokenizers" / "text" / "tokenizer.json").read_text())["model"]["vocab"]
        chosen = {
            "data.folder": self.data,
            "model.vocabulary.text": len(vocabulary),
            "model.hidden_size": 32,
            "model.num_layers": 1,
            "model.num_attention_heads": 4,
            "model.num_query_groups": 2,
            "model.ffn_hidden_size": 48,
            "fit.total_tokens": 3000,
            "fit.logical_batch": 8,
            "fit.micro_batch_per_dp_rank": 8,
            "fit.learning_rate.warmup_tokens": 300,
            "fit.checkpoint.every_tokens": 1000,
            "evaluation.num_pairs": 5,
            "evaluation.num_nelbo_draws": 1,
            **{name.replace("__", "."): value for name, value in changes.items()},
        }
        return [part for path, value in chosen.items() for part in ("--set", f"{path}={value}")]

    def training(self, run_dir, *more, **changes):
        """Arguments of `triptych train` into a directory."""
        return ["train", "trimodal_demo", "--run-dir", str(run_dir), *self.settings(**changes), *more]


def make_world(folder):
    """Everything but a run, in about a second. The tokenizers have their initial weights."""
    from triptych.configs.tokenizers import audio_fsq_demo, build_tokenizer, image_fsq_demo
    from triptych.data_pipelines.shards.encode import encode_shards
    from triptych.data_pipelines.tokenizers.text import TextTokenizer

    world = World(folder)
    raw, tokenizer_folder = world.data / "raw", world.data / "tokenizers"
    make_raw(raw)
    texts = [prose(i) for i in range(NUM_TRAIN)] + [f"the digit {word}" for word in WORDS]
    tokenizers = {
        "text": TextTokenizer.train(texts, 300),
        "image": build_tokenizer(image_fsq_demo().build_model()),
        "audio": build_tokenizer(audio_fsq_demo().build_model()),
    }
    for modality, tokenizer in tokenizers.items():
        tokenizer.save(tokenizer_folder / modality)
    for source in ("text", "digits", "speech"):
        for split in ("train", "validation"):
            encode_shards(raw / source / split, world.data / "codes" / source / split, tokenizers)
    return world


def make_raw(raw):
    """Sources of a corpus: prose, digits that are patterns of pixels, spoken digits that are tones."""
    for split, number in (("train", NUM_TRAIN), ("validation", NUM_VALIDATION)):
        start = 0 if split == "train" else NUM_TRAIN
        numbers = range(start, start + number)
        write_set(raw / "text" / split, [{"txt": prose(i).encode(), "json": b"{}"} for i in numbers])
        write_set(raw / "digits" / split, [digit_sample(i) for i in numbers])
        write_set(raw / "speech" / split, [speech_sample(i) for i in numbers])


def write_set(folder, samples):
    """One set of shards."""
    from triptych.data_pipelines.shards.writer import ShardConfig, ShardWriter

    folder.mkdir(parents=True)
    with ShardWriter(folder, ShardConfig(), provenance={}) as writer:
        for index, members in enumerate(samples):
            writer.write(f"{index:06d}", members)


def prose(number):
    """A few plain sentences."""
    draw = np.random.default_rng(number)
    nouns = ("list", "file", "value", "name", "object", "module")
    lines = [f"The {draw.choice(nouns)} holds a {draw.choice(nouns)} and {draw.choice(WORDS)} more." for _ in range(6)]
    return " ".join(lines)


def digit_sample(number):
    label = number % 10
    buffer = io.BytesIO()
    Image.fromarray(digit_image(number)).save(buffer, "PNG")
    return {"png": buffer.getvalue(), "txt": f"the digit {WORDS[label]}".encode(), "json": _about(label)}


def digit_image(number):
    """uint8 [8, 8]: the label's own random pattern under a little noise."""
    pattern = np.random.default_rng(number % 10).integers(0, 220, (8, 8))
    return (pattern + np.random.default_rng(1000 + number).integers(0, 30, (8, 8))).astype(np.uint8)


def speech_sample(number):
    label = number % 10
    times = np.arange(int(SECONDS * 16_000)) / 16_000
    wave = 0.5 * np.sin(2 * np.pi * 300 * (1 + label) * times)
    wave += 0.01 * np.random.default_rng(number).normal(size=len(wave))
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, 16_000, format="FLAC", subtype="PCM_16")
    return {"flac": buffer.getvalue(), "txt": f"say {WORDS[label]}".encode(), "json": _about(label)}


def _about(label):
    return json.dumps({"label": label}).encode()


def listing(*folders):
    """Every path under folders with its size and time of change: equal before and after means nothing was written."""
    found = {}
    for folder in folders:
        for path in sorted(Path(folder).rglob("*")):
            status = path.stat()
            found[str(path)] = (status.st_size, status.st_mtime_ns) if path.is_file() else None
    return found


def environment(**more):
    """This process's environment with one thread for torch, and nothing of a torchrun around it."""
    kept = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    return {**kept, "OMP_NUM_THREADS": "1", **more}


def start_command(arguments, folder, **more):
    """`triptych` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", "from triptych.launch.cli import main; main()", *map(str, arguments)],
        cwd=folder,
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
