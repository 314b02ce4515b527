"""DeepSpeed's own checkpoints, as `engine.save_checkpoint` writes them without ZeRO and with its stages 1 and 2.

    latest   global_stepN/mp_rank_MM_model_states.pt   global_stepN/[bf16_]zero_pp_rank_D_mp_rank_MM_optim_states.pt

A model-parallel rank's file knows its parameters by the names that they have in the whole model, so pipeline stages
need no more than a look; a name that several files have is split over tensor-parallel ranks, in their order.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from triptych.trainer.checkpoint.foreign.unpickling import load_tensors, plain
from triptych.trainer.checkpoint.foreign.weights import Shapes, Wanted, join_parts

_MODEL = re.compile(r"mp_rank_(\d+)_model_states\.pt")
_OPTIMIZER = re.compile(r"(?:bf16_|fp16_)?zero_pp_rank_(\d+)_mp_rank_(\d+)_optim_states\.pt")
_STAGE_3 = "zero_pp_rank_*_mp_rank_*_model_states.pt"
_PREFIXES = ("module.", "model.")


def deepspeed_folder(folder: Path) -> Path | None:
    """The folder of the files: this one, or the one that its `latest` names; None if neither has any. ValueError for
    ZeRO-3.
    """
    latest = folder / "latest"
    if latest.is_file():
        folder = folder / latest.read_text(encoding="utf-8").strip()
    if any(folder.glob(_STAGE_3)):
        raise ValueError(
            f"{folder} is of ZeRO stage 3, whose partitions are not read; make a universal checkpoint of it "
            "(ds_to_universal), load that with stage 1 or 2 and save it again"
        )
    return folder if any(_MODEL.fullmatch(path.name) for path in folder.glob("mp_rank_*")) else None


class DeepSpeedWeights:
    """fp32 weights: the optimizer's where ZeRO keeps them, else the module's.

    ValueError, naming the file, for one that is missing or damaged. Names and shapes are left to `require_shapes`.
    """

    def __init__(self, folder: Path, wanted: Wanted) -> None:
        self._wanted = wanted
        self._folder = folder
        self._modules = _numbered(folder, _MODEL)
        self._partitions = _partitions(folder)
        if self._partitions.keys() - self._modules.keys():
            raise ValueError(f"{folder} has optimizer states of ranks without model states; copy the whole checkpoint")
        self._shards: dict[str, list[tuple[int, tuple[int, ...]]]] = {}
        for rank, path in self._modules.items():
            for name, shape in _shapes(path).items():
                self._shards.setdefault(name, []).append((rank, shape))
        self._kept: tuple[Path, Any] | None = None
        if self._partitions:
            self._fragments = {
                (rank, copy): _fragments(path)
                for rank, paths in self._partitions.items()
                for copy, path in paths.items()
            }

    @property
    def shapes(self) -> Shapes:
        """Of the whole parameters, as their parts add up."""
        shapes = {}
        for name, shards in self._shards.items():
            shape = list(shards[0][1])
            sharding = self._wanted[name].sharding if name in self._wanted else None
            if sharding is not None and sharding.dim is not None:
                shape[sharding.dim] *= len(shards)
            shapes[name] = tuple(shape)
        return shapes

    def read(self, name: str) -> Tensor:
        parts = [self._part(name, rank, shape) for rank, shape in self._shards[name]]
        return join_parts(parts, self._wanted[name].sharding)

    def _part(self, name: str, rank: int, shape: tuple[int, ...]) -> Tensor:
        if not self._partitions:
            module = plain(_module(self._load(self._modules[rank])))
            return module[name].to(torch.float32)
        pieces = []
        for copy, path in self._partitions[rank].items():
            found = self._fragments[rank, copy].get(name)
            if found is not None:
                group, start, numel = found
                state = self._load(path)["optimizer_state_dict"]
                pieces.append(state["single_partition_of_fp32_groups"][group][start : start + numel])
        if sum(piece.numel() for piece in pieces) != math.prod(shape):
            raise ValueError(
                f"{self._folder} has {sum(piece.numel() for piece in pieces)} of {math.prod(shape)} elements of "
                f"{name}; copy the files of every rank"
            )
        return torch.cat(pieces).view(shape)

    def _load(self, path: Path) -> Any:
        """One file at a time is mapped."""
        if self._kept is None or self._kept[0] != path:
            self._kept = path, load_tensors(path, path)
        return self._kept[1]


def _module(document: Any) -> dict[str, Tensor]:
    """Parameters by their names; megatron-core's empty `_extra_state` entries are none."""
    module = plain(plain(document).get("module"))
    return {_bare(name): value for name, value in module.items() if isinstance(value, Tensor)}


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    document = plain(load_tensors(path, path))
    groups = document.get("param_shapes")
    if groups:
        return {_bare(name): tuple(shape) for group in groups for name, shape in group.items()}
    return {name: tuple(value.shape) for name, value in _module(document).items()}


def _fragments(path: Path) -> Mapping[str, tuple[int, int, int]]:
    """Parameter name to (group, first element in the partition, number of elements)."""
    state = plain(plain(load_tensors(path, path)).get("optimizer_state_dict"))
    if "param_slice_mappings" not in state or "single_partition_of_fp32_groups" not in state:
        raise ValueError(f"{path} is not of ZeRO stage 1 or 2 (or of a DeepSpeed before 0.8); save it again with those")
    return {
        _bare(name): (group, address.start, address.numel)
        for group, names in enumerate(state["param_slice_mappings"])
        for name, address in names.items()
    }


def _bare(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _numbered(folder: Path, pattern: re.Pattern[str]) -> dict[int, Path]:
    found = {int(match[1]): path for path in folder.iterdir() if (match := pattern.fullmatch(path.name))}
    if sorted(found) != list(range(len(found))):
        raise ValueError(f"{folder} has model states of ranks {sorted(found)} alone; copy the whole checkpoint")
    return dict(sorted(found.items()))


def _partitions(folder: Path) -> dict[int, dict[int, Path]]:
    """Model-parallel rank to data-parallel rank to file, in order."""
    found: dict[int, dict[int, Path]] = {}
    for path in folder.iterdir():
        match = _OPTIMIZER.fullmatch(path.name)
        if match:
            found.setdefault(int(match[2]), {})[int(match[1])] = path
    return {rank: dict(sorted(paths.items())) for rank, paths in sorted(found.items())}
