"""Reading a checkpoint in one process: whole tensors by name, whatever layout wrote them."""

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from triptych.trainer.checkpoint.disk.document import Damaged, Document, StoredTensor, read_document
from triptych.trainer.checkpoint.disk.files import first_fault


def verify_checkpoint(folder: Path) -> Document:
    """Read every file of a checkpoint and compare it with its checksum. `Damaged`, naming the first file that is not
    as it was written; ValueError if the format is another.
    """
    document = read_document(folder)
    _require_sound(folder, document, set(document.files))
    return document


def read_part(folder: Path, part: str) -> dict[str, Tensor]:
    """Parameter name to whole fp32 tensor on the CPU. Errors as `iterate_part`."""
    return dict(iterate_part(folder, part))


def iterate_part(folder: Path, part: str) -> Iterator[tuple[str, Tensor]]:
    """Yield (parameter name, whole fp32 tensor on the CPU), one parameter in memory at a time.

    Every file of the part is verified before the first is given. `Damaged` if one is not as it was written; ValueError
    if the checkpoint has no such part or another format.
    """
    document = read_document(folder)
    if part not in document.index:
        raise ValueError(f"{folder} has no part {part!r}; choose one of {', '.join(document.index)}")
    _require_sound(folder, document, document.files_of(part))
    for name, stored in document.index[part].items():
        yield name, _assemble(folder, stored)


def _require_sound(folder: Path, document: Document, names: set[str]) -> None:
    fault = first_fault(folder, {name: document.files[name] for name in names})
    if fault is not None:
        raise Damaged(f"{fault}; use an older checkpoint")


def _assemble(folder: Path, stored: StoredTensor) -> Tensor:
    whole = torch.empty(stored.shape)
    for box in stored.boxes:
        window = tuple(slice(at, at + size) for at, size in zip(box.offsets, box.sizes, strict=True))
        with safe_open(folder / box.file, framework="pt") as file:
            whole[window] = file.get_tensor(box.key)
    return whole
