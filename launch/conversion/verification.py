"""Whether both sides of a conversion are the same: every tensor by its checksum, and logits of every task bit for bit.

Shape legend: B sequences, S positions, R rows, V ids of one modality.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from triptych.configs.trimodal import TrimodalRun
from triptych.data_pipelines.batch import Role
from triptych.data_pipelines.stream.sequences import SIDES
from triptych.data_pipelines.vocabulary import MODALITIES, TASKS, Modality, Task
from triptych.models.diffusion.inputs import DiffusionInputs
from triptych.models.hugging_face.files import remote_code
from triptych.trainer.checkpoint.foreign.weights import Weights
from triptych.trainer.parallel.groups import Groups

Denoise = Callable[[DiffusionInputs], Mapping[Modality, Tensor]]
_ROWS = 2


@dataclass(kw_only=True, slots=True, frozen=True)
class Verified:
    """What was compared. differences: one line for everything that is not the same."""

    num_tensors: int
    num_parameters: int
    digest: str
    num_logits: Mapping[Task, int]
    differences: list[str]


def compare(source: Weights, result: Weights, left: Denoise, right: Denoise, run: TrimodalRun) -> Verified:
    """Tensors one at a time, then both models on the same inputs."""
    differences, whole, num_parameters = [], hashlib.sha256(), 0
    if source.shapes != result.shapes:
        differences.append("names or shapes of tensors differ")
    for name in sorted(source.shapes.keys() & result.shapes.keys()):
        here, there = _digest(source.read(name)), _digest(result.read(name))
        whole.update(f"{name} {here}".encode())
        num_parameters += int(np.prod(source.shapes[name]))
        if here != there:
            differences.append(f"{name} differs (sha256 {here[:12]} and {there[:12]})")
    num_logits: dict[Task, int] = {}
    for task in TASKS:
        num_logits[task] = 0
        for inputs in task_inputs(run, task):
            with torch.no_grad():
                ours, theirs = dict(left(inputs)), dict(right(inputs))
            for modality in ours:
                num_logits[task] += ours[modality].numel()
                if not same_bits(ours[modality], theirs[modality]):
                    apart = (ours[modality] - theirs[modality]).abs().max().item()
                    differences.append(f"{modality} logits of {task} differ by up to {apart:.3g}")
    return Verified(
        num_tensors=len(source.shapes),
        num_parameters=num_parameters,
        digest=whole.hexdigest(),
        num_logits=num_logits,
        differences=differences,
    )


def same_bits(left: Tensor, right: Tensor) -> bool:
    """Whether two fp32 tensors are equal to the bit, signs of zeros and NaN included."""
    return left.shape == right.shape and torch.equal(left.view(torch.int32), right.view(torch.int32))


def task_inputs(run: TrimodalRun, task: Task) -> Iterator[DiffusionInputs]:
    """Two made-up sequences of a task: with the whole target hidden, with every second position of it, and (pairs) with
    the condition hidden, as guidance asks; the logits of all modalities at all of those positions.
    """
    draw = np.random.default_rng(TASKS.index(task))
    layout, vocabulary = run.layout, run.model.vocabulary

    def codes(modality: Modality, size: int) -> np.ndarray:
        return draw.integers(0, vocabulary.num_outputs(modality) - 1, size)

    documents = []
    for number in range(_ROWS):
        if task == "text":
            documents.append(layout.text(codes("text", layout.sequence_length), 0, layout.sequence_length))
            continue
        condition, target = SIDES[task]
        sizes = layout.regions.of(condition) // (1 + number), layout.regions.of(target)
        documents.append(layout.pair(task, {condition: codes(condition, sizes[0]), target: codes(target, sizes[1])}))
    length = max(len(document.tokens) for document in documents)
    tokens_BS = torch.full((_ROWS, length), vocabulary.special("pad"))
    roles_BS = torch.full((_ROWS, length), int(Role.PADDING))
    for row, document in enumerate(documents):
        tokens_BS[row, : len(document.tokens)] = torch.from_numpy(document.tokens)
        roles_BS[row, : len(document.tokens)] = torch.from_numpy(document.roles.astype(np.int64))
    target_BS, padding_BS = roles_BS == Role.TARGET, roles_BS == Role.PADDING
    every_second_BS = target_BS & (torch.arange(length) % 2 == 0)
    for hidden_BS in (target_BS, every_second_BS, target_BS | (roles_BS == Role.CONDITION)):
        rows_R = hidden_BS.flatten().nonzero()[:, 0]
        yield DiffusionInputs(
            tokens_BS=tokens_BS.masked_fill(hidden_BS, vocabulary.mask),
            rows=dict.fromkeys(MODALITIES, rows_R),
            padding_BS=padding_BS if bool(padding_BS.any()) else None,
        )


def native_model(run: TrimodalRun, weights: Weights, groups: Groups) -> Denoise:
    """The run's own model, filled."""
    model = run.build_model(groups)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights.read(name))
    return model.eval()


def hugging_face_model(folder: Path) -> Denoise:
    """The model of a folder, by its own code. ValueError if that code is not this version's: nobody else's is run."""
    for name, text in remote_code().items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            raise ValueError(f"{path} is not the file of this version, and is not run; convert without --verify")
    from triptych.models.hugging_face.modeling_triptych import TriptychModel

    with _silence():
        return _denoise(TriptychModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True))


@contextmanager
def _silence() -> Iterator[None]:
    """No progress bar of transformers'."""
    from transformers.utils import logging

    is_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if is_on:
            logging.enable_progress_bar()


def plain_model(config: Mapping[str, Any], weights: Weights) -> Denoise:
    """The model in plain torch, filled from elsewhere."""
    from triptych.models.hugging_face.configuration_triptych import TriptychConfiguration
    from triptych.models.hugging_face.modeling_triptych import TriptychModel

    model = TriptychModel(TriptychConfiguration(**config))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights.read(name))
    return _denoise(model)


def _denoise(model: Any) -> Denoise:
    model.eval()

    def denoise(inputs: DiffusionInputs) -> Mapping[Modality, Tensor]:
        visible_BS = None if inputs.padding_BS is None else ~inputs.padding_BS
        return model(inputs.tokens_BS, visible_BS, inputs.rows).logits

    return denoise


def _digest(tensor: Tensor) -> str:
    whole = tensor.detach().to(torch.float32).contiguous().view(-1)
    return hashlib.sha256(whole.view(torch.uint8).numpy().data).hexdigest()
