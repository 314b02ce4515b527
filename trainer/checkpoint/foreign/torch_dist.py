"""Checkpoints of megatron.core.dist_checkpointing (format `torch_dist`) and of torch.distributed.checkpoint, which it
is built on: `.metadata`, an index, and files of tensors one after another.

Layers may be stacked, as Megatron-LM's own blocks save them: `layers.mlp.linear_fc1.weight` with the number of the
layer as its first dimension.
"""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from triptych.trainer.checkpoint.foreign.unpickling import load_index, load_tensors
from triptych.trainer.checkpoint.foreign.weights import Shapes, Wanted

METADATA = ".metadata"
_LATEST = "latest_checkpointed_iteration.txt"
_LAYER = re.compile(r"layers\.(\d+)\.")
_PREFIXES = ("", "model.", "module.", "model.module.")
_NOT_WEIGHTS = ("optimizer.", "optim.", "rng_state", "rerun_state_machine_state")


def torch_dist_folder(folder: Path) -> Path | None:
    """The folder that has `.metadata`: this one, or the iteration that Megatron-LM's own note of the latest names; None
    if neither has.
    """
    if not (folder / METADATA).is_file() and (folder / _LATEST).is_file():
        latest = (folder / _LATEST).read_text(encoding="utf-8").strip()
        folder = folder / (f"iter_{int(latest):07d}" if latest.isdecimal() else latest)
    return folder if (folder / METADATA).is_file() else None


class TorchDistWeights:
    """fp32 weights, as precise as the model's own tensors are: what an optimizer keeps besides is not looked at.

    ValueError, naming the file, for an index that holds more than an index, or less than whole tensors, and for what
    is missing.
    """

    def __init__(self, folder: Path, wanted: Wanted) -> None:
        self._folder = folder
        metadata = load_index(folder / METADATA)
        self._tensors: dict[str, TensorStorageMetadata] = {
            key: value
            for key, value in metadata.state_dict_metadata.items()
            if isinstance(value, TensorStorageMetadata) and not key.startswith(_NOT_WEIGHTS)
        }
        self._places = {(index.fqn, tuple(index.offset)): info for index, info in _stored(metadata)}
        self._found = {name: found for name in wanted if (found := self._find(name)) is not None}

    @property
    def shapes(self) -> Shapes:
        """Of the parameters that are wanted, under their names; of what is left over under its own."""
        found = {
            name: tuple(self._tensors[key].size)[0 if layer is None else 1 :]
            for name, (key, layer) in self._found.items()
        }
        return found | self._left_over()

    def _left_over(self) -> dict[str, tuple[int, ...]]:
        """What no parameter is read from; of stacked layers each by itself."""
        used = set(self._found.values())
        stacked = {key for key, layer in used if layer is not None}
        shapes: dict[str, tuple[int, ...]] = {}
        for key, value in self._tensors.items():
            if key in stacked:
                names = {layer: key.replace("layers.", f"layers.{layer}.", 1) for layer in range(value.size[0])}
                shapes |= {name: tuple(value.size)[1:] for layer, name in names.items() if (key, layer) not in used}
            elif (key, None) not in used:
                shapes[key] = tuple(value.size)
        return shapes

    def read(self, name: str) -> Tensor:
        key, layer = self._found[name]
        shape = tuple(self._tensors[key].size)
        first = 0 if layer is None else layer
        whole, num_read = torch.empty(shape if layer is None else (1, *shape[1:])), 0
        for chunk in self._tensors[key].chunks:
            offsets, sizes = tuple(chunk.offsets), tuple(chunk.sizes)
            if layer is not None and not offsets[0] <= layer < offsets[0] + sizes[0]:
                continue
            tensor = self._chunk(key, offsets, sizes)
            if layer is not None:
                tensor, offsets, sizes = tensor[layer - offsets[0]][None], (layer, *offsets[1:]), (1, *sizes[1:])
            starts = (offsets[0] - first, *offsets[1:]) if offsets else ()
            whole[tuple(slice(at, at + size) for at, size in zip(starts, sizes, strict=True))] = tensor
            num_read += tensor.numel()
        if num_read != whole.numel():
            raise ValueError(
                f"{self._folder / METADATA} knows {num_read} of {whole.numel()} elements of {name}; copy it again"
            )
        return whole if layer is None else whole[0]

    def _chunk(self, key: str, offsets: tuple[int, ...], sizes: tuple[int, ...]) -> Tensor:
        if (key, offsets) not in self._places:
            raise ValueError(f"{self._folder / METADATA} does not say where {key} lies; copy it again")
        info = self._places[key, offsets]
        path = self._folder / Path(info.relative_path).name  # never outside the folder
        if getattr(info, "transform_descriptors", None):
            raise ValueError(f"{path} is compressed, which is not read; save it without transforms")
        try:
            with path.open("rb") as file:
                file.seek(info.offset)
                content = io.BytesIO(file.read(info.length))
        except FileNotFoundError:
            raise ValueError(f"{path} is missing; copy the whole checkpoint") from None
        tensor = load_tensors(content, path)
        if not isinstance(tensor, Tensor) or tuple(tensor.shape) != sizes:
            raise ValueError(f"{path} holds no tensor of {list(sizes)} for {key}; copy it again")
        return tensor

    def _find(self, name: str) -> tuple[str, int | None] | None:
        """The key that has the parameter, and which of its layers it is where they are stacked."""
        match = _LAYER.search(name)
        for prefix in _PREFIXES:
            if prefix + name in self._tensors:
                return prefix + name, None
            if match is None:
                continue
            stacked = prefix + name.replace(match[0], "layers.", 1)
            if stacked in self._tensors and int(match[1]) < self._tensors[stacked].size[0]:
                return stacked, int(match[1])
        return None


def _stored(metadata: Any) -> Iterator[tuple[Any, Any]]:
    return ((index, info) for index, info in metadata.storage_data.items() if index.offset is not None)
