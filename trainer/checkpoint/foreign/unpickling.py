"""Reading other libraries' pickles without running them."""

import io
import pickle  # noqa: TID251 - only to forbid: everything that is not on the list below is refused
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch.distributed.checkpoint.metadata import Metadata
from torch.serialization import safe_globals


class Inert:
    """Stands for an object that is of no use here: takes any arguments and any state, and does nothing."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        vars(self).update(state if isinstance(state, dict) else {})


_DEEPSPEED = (
    "deepspeed.utils.tensor_fragment.fragment_address",
    "deepspeed.runtime.zero.config.ZeroStageEnum",
    "deepspeed.runtime.fp16.loss_scaler.LossScaler",
    "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler",
)
"""What DeepSpeed 0.19's own checkpoints hold besides tensors and plain data."""

_TORCH_DIST = {
    "torch": ("Size", "float64", "float32", "float16", "bfloat16", "int64", "int32", "uint8", "bool"),
    "torch.serialization": ("_get_layout",),
    "torch.distributed.checkpoint.metadata": (
        "Metadata",
        "MetadataIndex",
        "TensorStorageMetadata",
        "BytesStorageMetadata",
        "ChunkStorageMetadata",
        "TensorProperties",
        "StorageMeta",
        "_MEM_FORMAT_ENCODING",
    ),
    "torch.distributed.checkpoint.planner": (
        "SavePlan",
        "WriteItem",
        "WriteItemType",
        "TensorWriteData",
        "BytesIOWriteData",
    ),
    "torch.distributed.checkpoint.filesystem": ("_StorageInfo",),
    "collections": ("OrderedDict",),
}
"""What the index of a torch.distributed checkpoint may hold, by module. None of these does anything when it is made."""


def load_tensors(path: Path | BinaryIO, origin: Path) -> Any:
    """What `torch.save` wrote, as far as it is tensors, plain data and DeepSpeed's own records, which are `Inert`.

    Tensors of a file are mapped, not read. ValueError, naming the file, if it is damaged or holds anything else.
    """
    stand_ins: list[Any] = [(Inert, name) for name in _DEEPSPEED]
    try:
        with safe_globals(stand_ins):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=isinstance(path, Path))
    except FileNotFoundError:
        raise ValueError(f"{origin} is missing; copy the whole checkpoint") from None
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{origin} holds more than tensors ({_named(str(error))}) and is not loaded; {_MEND}"
        ) from None
    except (RuntimeError, EOFError, KeyError) as error:
        line = " ".join(str(error).split())[:120]
        raise ValueError(f"{origin} is damaged ({line}); copy it again") from None


_MEND = "save weights alone, as a state_dict of tensors"


class _IndexUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == "pathlib":  # where it was saved
            return Inert
        if name not in _TORCH_DIST.get(module, ()):
            raise pickle.UnpicklingError(f"{module}.{name}")
        return super().find_class(module, name)


def load_index(path: Path) -> Metadata:
    """The `.metadata` of a torch.distributed checkpoint, of which torch has no other form than a pickle. ValueError,
    naming what else it holds.
    """
    try:
        index = _IndexUnpickler(io.BytesIO(path.read_bytes())).load()
    except pickle.UnpicklingError as error:
        line = " ".join(str(error).split())[:120]
        raise ValueError(f"{path} holds more than an index ({line}) and is not loaded; {_MEND}") from None
    except (EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError, ImportError) as error:
        line = " ".join(str(error).split())[:120]
        raise ValueError(f"{path} is damaged ({line}); copy it again") from None
    if not isinstance(index, Metadata):
        raise ValueError(f"{path} holds a {type(index).__name__} and no index; give a torch.distributed checkpoint")
    return index


def _named(message: str) -> str:
    """What torch's long message says was met."""
    words = " ".join(message.split())
    start = words.find("Unsupported")
    return words[start if start >= 0 else 0 :][:120]


def plain(value: Any) -> Mapping[str, Any]:
    """A mapping, or ValueError for anything else."""
    if not isinstance(value, Mapping):
        raise ValueError(f"a checkpoint holds {type(value).__name__} where a mapping belongs; copy it again")
    return value
