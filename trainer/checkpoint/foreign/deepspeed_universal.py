"""DeepSpeed's universal checkpoints, as its `ds_to_universal` makes them: zero/<parameter>/fp32.pt.

A file that was put together of tensor-parallel parts is in the order of those parts unless the training declared
patterns for it, which nobody can see in it: such checkpoints are refused; the one that they were made of is read
instead.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from triptych.trainer.checkpoint.foreign.unpickling import load_tensors
from triptych.trainer.checkpoint.foreign.weights import Shapes

_ZERO = "zero"


def universal_folder(folder: Path) -> Path | None:
    """The folder that has zero/: this one, or the one that its `latest` names, or, where there is no `latest`, its
    `latest_universal`; None if that has none. What training goes on from is `latest`; a conversion of some steps ago
    may still lie beside it.
    """
    for name in ("latest", "latest_universal"):
        if (folder / name).is_file():
            named = folder / (folder / name).read_text(encoding="utf-8").strip()
            return named if (named / _ZERO).is_dir() else None
    return folder if (folder / _ZERO).is_dir() else None


class UniversalWeights:
    """fp32 weights. ValueError, naming the file, for what is damaged or was put together of tensor-parallel parts."""

    def __init__(self, folder: Path) -> None:
        if len(list(folder.glob("mp_rank_*_model_states.pt"))) > 1:
            raise ValueError(
                f"{folder} was made of several model-parallel ranks, whose order in it is not known; convert the "
                "checkpoint that it was made of"
            )
        self._files = {_bare(path.parent.name): path for path in sorted((folder / _ZERO).glob("*/fp32.pt"))}
        self.shapes: Shapes = {name: tuple(self.read(name).shape) for name in self._files}

    def read(self, name: str) -> Tensor:
        content: Any = load_tensors(self._files[name], self._files[name])
        tensor = content["param"] if isinstance(content, dict) else content
        return tensor.to(torch.float32)


def _bare(name: str) -> str:
    return name.removeprefix("module.").removeprefix("model.")
