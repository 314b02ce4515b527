"""Writing a checkpoint of weights alone in one process, one parameter in memory at a time."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from triptych.trainer.checkpoint.disk.document import (
    STATE,
    Document,
    Header,
    StoredBox,
    StoredFile,
    StoredTensor,
    encode_document,
)
from triptych.trainer.checkpoint.disk.files import write_tensors, write_text

Shapes = Mapping[str, tuple[int, ...]]
_ZEROS = "zeros.safetensors"
_ZEROS_ELEMENTS = 2**20
"""Of the largest tensor of zeros. Parts that are zero all over are boxes of a few such tensors: megabytes on the disk,
where the moments of a large model would be twice its size.
"""


def write_weights(
    folder: Path,
    shapes: Shapes,
    read: Callable[[str], Tensor],
    header: Header,
    *,
    zero_parts: Sequence[str],
    file_bytes: int = 2**30,
) -> None:
    """Write a new checkpoint with the part "weights", read by name, and parts that are zero all over, into a new
    folder. OSError if the disk refuses.
    """
    folder.mkdir()
    files: dict[str, StoredFile] = {}
    weights: dict[str, StoredTensor] = {}
    for number, names in enumerate(by_size(shapes, file_bytes)):
        file = f"weights-rank0000-{number:03d}.safetensors"
        keys = {name: f"weights/{name}@{','.join('0' * len(shapes[name]))}" for name in names}
        files[file] = write_tensors(folder / file, {keys[name]: shapes[name] for name in names}, map(read, names))
        for name in names:
            box = StoredBox(offsets=(0,) * len(shapes[name]), sizes=shapes[name], file=file, key=keys[name])
            weights[name] = StoredTensor(shape=shapes[name], boxes=(box,))
    zeros = {name: StoredTensor(shape=shape, boxes=tuple(_zero_boxes(shape))) for name, shape in shapes.items()}
    if zero_parts:
        sizes = {box.key: box.sizes for tensor in zeros.values() for box in tensor.boxes}
        files[_ZEROS] = write_tensors(folder / _ZEROS, sizes, map(torch.zeros, sizes.values()))
    index = {"weights": weights, **dict.fromkeys(zero_parts, zeros)}
    write_text(folder / STATE, encode_document(Document(header=header, files=files, index=index)))


def by_size(shapes: Shapes, file_bytes: int, element_bytes: int = 4) -> list[list[str]]:
    """Names in order, cut into files of at most so many bytes; a tensor that is larger has one of its own."""
    files: list[list[str]] = [[]]
    taken = 0
    for name, shape in shapes.items():
        size = element_bytes * math.prod(shape)
        if files[-1] and taken + size > file_bytes:
            files.append([])
            taken = 0
        files[-1].append(name)
        taken += size
    return files


def _zero_boxes(shape: tuple[int, ...]) -> Iterator[StoredBox]:
    """Boxes along the first dimension that tile the shape, named by their sizes: those of one size are one tensor."""
    if not shape:
        yield StoredBox(offsets=(), sizes=(), file=_ZEROS, key="zeros")
        return
    at_once = max(1, _ZEROS_ELEMENTS // max(1, math.prod(shape[1:])))
    for start in range(0, shape[0], at_once):
        sizes = (min(at_once, shape[0] - start), *shape[1:])
        key = f"zeros {'x'.join(map(str, sizes))}"
        yield StoredBox(offsets=(start, *(0 for _ in shape[1:])), sizes=sizes, file=_ZEROS, key=key)
