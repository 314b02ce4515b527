"""`triptych sample`."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from triptych.data_pipelines.vocabulary import Task
from triptych.launch.run_directory import RunDirectory

if TYPE_CHECKING:
    from triptych.launch.trained import Trained

Input = tuple[str, Any]
"""How an error names an input, and what it is: text, image or recording."""


def sample(
    run_dir: Path,
    task: str,
    prompts: Sequence[str],
    files: Sequence[Path],
    out: Path,
    *,
    num: int,
    seed: int,
    settings: Sequence[str],
    weights: str,
) -> None:
    """Generate `num` outputs for every prompt or file and write them to `out`, named by task, input and number.

    Everything is read, checked and generated before anything is written. ValueError for an input that is missing,
    empty, damaged or longer than the run has room for.
    """
    known: Task | None = next((known for known in get_args(Task) if known == task), None)
    if known is None:
        raise ValueError(f"--task {task} is unknown; use one of {', '.join(get_args(Task))}")
    if num < 1:
        raise ValueError(f"--num {num} makes nothing; give 1 or more")
    if not 0 <= seed < 2**64:
        raise ValueError(f"--seed {seed} is outside 0..2**64-1; give another")
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is no folder; choose another")
    inputs = _inputs(known, prompts, files)
    from triptych.launch.trained import open_trained

    with open_trained(RunDirectory(folder=run_dir), settings, seed, weights) as trained:
        made = _texts(trained, inputs, num) if known == "text" else _pairs(trained, known, inputs, num)
    out.mkdir(parents=True, exist_ok=True)
    for i, raw in enumerate(made):
        print(_write(out / f"{task}-{i // num:03d}-{i % num:03d}", raw))


def _inputs(task: Task, prompts: Sequence[str], files: Sequence[Path]) -> list[Input]:
    """What the condition side is made of, read and checked."""
    if task in ("text", "t2i", "t2s"):
        if files or (task != "text" and not prompts):
            raise ValueError(f"--task {task} takes --prompt, not --file; give at least one")
        return [_prompt(text, may_be_empty=task == "text") for text in prompts or [""]]
    if prompts or not files:
        raise ValueError(f"--task {task} takes --file, not --prompt; give at least one")
    return [_file(task, path) for path in files]


def _prompt(text: str, *, may_be_empty: bool) -> Input:
    if not text.strip() and not may_be_empty:
        raise ValueError("a --prompt is empty; say what to make")
    if any("\ud800" <= character <= "\udfff" for character in text):  # how Python keeps bytes that are not UTF-8
        raise ValueError(f"--prompt {text!r} is not UTF-8; type it anew")
    return f"--prompt {text!r}", text


def _file(task: Task, path: Path) -> Input:
    from triptych.data_pipelines.shards.decode import DecodeConfig, decode_audio, decode_image
    from triptych.data_pipelines.shards.errors import DamagedSample

    decode, wanted = (decode_image, "PNG") if task == "i2t" else (decode_audio, "FLAC")
    try:
        return f"--file {path}", decode(path.name, path.read_bytes(), DecodeConfig())
    except DamagedSample as error:
        raise ValueError(f"--file {path}: {error.detail}; give a sound {wanted} file") from None


def _texts(trained: "Trained", inputs: Sequence[Input], num: int) -> list[str]:
    from triptych.launch.trained import codes_of

    tokenizer = trained.tokenizers["text"]
    made: list[str] = []
    room = trained.run.model.sequence_length - 2  # after the task's token, and with one place to fill
    for i, codes in enumerate([codes_of(tokenizer, name, raw, room) for name, raw in inputs]):
        made += tokenizer.decode(trained.generator.texts(num, codes, first_key=i * num))
    return made


def _pairs(trained: "Trained", task: Task, inputs: Sequence[Input], num: int) -> list[Any]:
    from triptych.data_pipelines.stream.sequences import SIDES
    from triptych.launch.trained import codes_of

    condition, target = SIDES[task]
    tokenizer, room = trained.tokenizers[condition], trained.run.data.regions.of(condition)
    codes = [codes_of(tokenizer, name, raw, room) for name, raw in inputs]
    repeated = [item for item in codes for _ in range(num)]
    return trained.tokenizers[target].decode(trained.generator.targets(task, repeated))


def _write(path: Path, raw: Any) -> Path:
    """Write one output, whole or not at all, under the ending of its kind: .txt, .png or .flac."""
    from triptych.data_pipelines.shards.atomic import replace_file

    buffer = io.BytesIO()
    if isinstance(raw, str):
        ending = ".txt"
        buffer.write(f"{raw}\n".encode())
    elif raw.dtype == np.uint8:
        from PIL import Image

        ending = ".png"
        Image.fromarray(raw).save(buffer, "PNG")
    else:
        import soundfile

        ending = ".flac"
        soundfile.write(buffer, raw, 16_000, format="FLAC", subtype="PCM_16")
    replace_file(path.with_suffix(ending), buffer.getvalue())
    return path.with_suffix(ending)
