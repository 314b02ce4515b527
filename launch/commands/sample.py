"""`triptych sample`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from triptych.data_pipelines.vocabulary import Task
from triptych.launch.run_directory import RunDirectory


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
) -> None:
    """Generate `num` outputs for every prompt or file and write them to `out`, named by task, input and number."""
    if task not in get_args(Task):
        raise ValueError(f"--task {task} is unknown; use one of {', '.join(get_args(Task))}")
    inputs: Sequence[Any] = _inputs(task, prompts, files)
    from triptych.launch.trained import open_trained

    with open_trained(RunDirectory(folder=run_dir), settings, seed) as trained:
        if task == "text":
            made = _texts(trained, prompts or [""], num)
        else:
            made = _pairs(trained, task, inputs, num)
    out.mkdir(parents=True, exist_ok=True)
    for i, raw in enumerate(made):
        print(_write(out / f"{task}-{i // num:03d}-{i % num:03d}", raw))


def _inputs(task: str, prompts: Sequence[str], files: Sequence[Path]) -> Sequence[Any]:
    """What the condition side is made of, read and checked."""
    from triptych.data_pipelines.shards.decode import DecodeConfig, decode_audio, decode_image

    if task in ("text", "t2i", "t2s"):
        if files or (task != "text" and not prompts):
            raise ValueError(f"--task {task} takes --prompt, not --file; give at least one")
        return prompts
    if prompts or not files:
        raise ValueError(f"--task {task} takes --file, not --prompt; give at least one")
    decode = decode_image if task == "i2t" else decode_audio
    return [decode(str(path), path.read_bytes(), DecodeConfig()) for path in files]


def _texts(trained: Any, prompts: Sequence[str], num: int) -> list[str]:
    tokenizer = trained.tokenizers["text"]
    made: list[str] = []
    for i, codes in enumerate(tokenizer.encode(prompts)):
        made += tokenizer.decode(trained.generator.texts(num, codes, first_key=i * num))
    return made


def _pairs(trained: Any, task: Any, inputs: Sequence[Any], num: int) -> list[Any]:
    from triptych.data_pipelines.stream.sequences import SIDES

    condition, target = SIDES[task]
    codes = trained.tokenizers[condition].encode(inputs)
    repeated = [item for item in codes for _ in range(num)]
    return trained.tokenizers[target].decode(trained.generator.targets(task, repeated))


def _write(path: Path, raw: Any) -> Path:
    """Write one output under the ending of its kind: .txt, .png or .flac."""
    if isinstance(raw, str):
        path = path.with_suffix(".txt")
        path.write_text(raw + "\n", encoding="utf-8")
    elif raw.dtype == np.uint8:
        from PIL import Image

        path = path.with_suffix(".png")
        Image.fromarray(raw).save(path)
    else:
        import soundfile

        path = path.with_suffix(".flac")
        soundfile.write(path, raw, 16_000)
    return path
