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

    Every file of the part is verified before the first is given. Errors as `StoredPart`.
    """
    stored = StoredPart(folder, part)
    for name in stored.shapes:
        yield name, stored.read(name)


class StoredPart:
    """A part of a checkpoint, whose parameters are read one at a time, by name.

    Every file of the part is verified first. `Damaged` if one is not as it was written; ValueError if the checkpoint
    has no such part or another format.
    """

    def __init__(self, folder: Path, part: str) -> None:
        document = read_document(folder)
        if part not in document.index:
            raise ValueError(f"{folder} has no part {part!r}; choose one of {', '.join(document.index)}")
        _require_sound(folder, document, document.files_of(part))
        self._folder, self._tensors = folder, document.index[part]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the whole parameters, by name."""
        return {name: tensor.shape for name, tensor in self._tensors.items()}

    def read(self, name: str) -> Tensor:
        """The whole parameter, fp32 on the CPU. Where it was written in one piece it is the mapped file: not to be
        written to.
        """
        return _assemble(self._folder, self._tensors[name])


def _require_sound(folder: Path, document: Document, names: set[str]) -> None:
    fault = first_fault(folder, {name: document.files[name] for name in names})
    if fault is not None:
        raise Damaged(f"{fault}; use an older checkpoint")


def _assemble(folder: Path, stored: StoredTensor) -> Tensor:
    first = stored.boxes[0]
    if first.sizes == stored.shape:
        with safe_open(folder / first.file, framework="pt") as file:
            return file.get_tensor(first.key)
    whole = torch.empty(stored.shape)
    for box in stored.boxes:
        window = tuple(slice(at, at + size) for at, size in zip(box.offsets, box.sizes, strict=True))
        with safe_open(folder / box.file, framework="pt") as file:
            whole[window] = file.get_tensor(box.key)
    return whole
