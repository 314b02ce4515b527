"""Files of tensors: written once through, with their checksum, and forced to the disk."""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from triptych.trainer.checkpoint.disk.document import StoredFile

_PIECE = 16 * 2**20
_THREADS = 2


_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16"}


def write_tensors(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    tensors: Iterable[Tensor],
    dtype: torch.dtype = torch.float32,
    about: Mapping[str, str] | None = None,
) -> StoredFile:
    """Write a new safetensors file of tensors in fp32 or bf16: names and shapes, and the tensors in the same order,
    which are asked for one at a time. about: what the header says of the file. OSError if the disk refuses.

    safetensors' own writer needs all tensors at once, copied to bytes, and a second reading for the checksum; the
    format is eight bytes of header length, a JSON header, and the data (https://github.com/huggingface/safetensors).
    """
    sha256, num_bytes = hashlib.sha256(), 0
    with path.open("xb") as file:
        for piece in _pieces(shapes, tensors, dtype, about):
            file.write(piece)
            sha256.update(piece)
            num_bytes += len(piece)
        file.flush()
        os.fsync(file.fileno())
    return StoredFile(sha256=sha256.hexdigest(), num_bytes=num_bytes)


def _pieces(
    shapes: Mapping[str, tuple[int, ...]],
    tensors: Iterable[Tensor],
    dtype: torch.dtype,
    about: Mapping[str, str] | None,
) -> Iterable[bytes | memoryview]:
    header: dict[str, object] = {} if about is None else {"__metadata__": dict(about)}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + dtype.itemsize * math.prod(shape)
        header[name] = {"dtype": _DTYPES[dtype], "shape": shape, "data_offsets": (begin, end)}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the data begins aligned
    yield len(text).to_bytes(8, "little") + text
    for tensor, shape in zip(tensors, shapes.values(), strict=True):
        assert tuple(tensor.shape) == shape
        whole = tensor.detach().to(device="cpu", dtype=dtype).contiguous().view(-1)
        data = whole.view(torch.uint8).numpy().data  # numpy has no bf16
        for begin in range(0, len(data), _PIECE):
            yield data[begin : begin + _PIECE]


def write_text(path: Path, content: bytes) -> None:
    """Write a new small file and force it to the disk."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_text(path: Path, content: bytes) -> None:
    """Give a small file other content, or leave it as it is: no reader ever finds half of either. OSError if the disk
    refuses.
    """
    partial = path.with_name(f".{path.name}")
    partial.unlink(missing_ok=True)
    write_text(partial, content)
    partial.replace(path)
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Force a folder's list of names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def first_fault(folder: Path, files: Mapping[str, StoredFile]) -> str | None:
    """What is wrong with the first, by name, of these files that is not as it was written; None if all are.

    Two are read at a time: hashing frees the interpreter.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        faults = pool.map(lambda name: _fault(folder / name, files[name]), sorted(files))
        return next((fault for fault in faults if fault is not None), None)


def _fault(path: Path, stored: StoredFile) -> str | None:
    try:
        num_bytes = path.stat().st_size
        if num_bytes != stored.num_bytes:
            return f"{path} has {num_bytes} bytes of {stored.num_bytes}"
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return f"{path} is missing"
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"
    return None if found == stored.sha256 else f"{path} does not match its checksum"
