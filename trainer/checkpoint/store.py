"""A run's checkpoints: when one is due, what goes in, which is loaded, which are dropped."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from triptych.trainer.checkpoint.config import CheckpointConfig
from triptych.trainer.checkpoint.format import complete_checkpoints, read_part, read_state, write_checkpoint
from triptych.trainer.engine import MOMENTS
from triptych.trainer.parallel.groups import Groups
from triptych.trainer.state import TrainState


class CheckpointStore:
    """Writes and reads `TrainState` under one folder. Every rank calls `save` and `load_newest` together; rank 0
    writes.
    """

    def __init__(self, folder: Path, config: CheckpointConfig, groups: Groups, identity: Mapping[str, Any]) -> None:
        self._folder = folder
        self._config = config
        self._groups = groups
        self._identity = dict(identity)
        self._saved_tokens = 0

    def save_if_due(self, state: TrainState) -> None:
        """Save once `every_tokens` more tokens have been seen than at the last save."""
        every = self._config.every_tokens
        if every and state.tokens // every > self._saved_tokens // every:
            self.save(state)

    def save(self, state: TrainState) -> None:
        """Write a checkpoint of the state now."""
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensors in state.engine.named_state():
            for key, tensor in tensors.items():
                parts.setdefault("weights" if key == "weight" else key, {})[name] = tensor
        if self._groups.is_first:
            document = {
                "tokens": state.tokens,
                "step": state.step,
                "num_updates": state.engine.num_updates,
                "cursor": dict(state.cursor),
                "identity": self._identity,
            }
            write_checkpoint(self._folder / f"tokens-{state.tokens:015d}", parts, document)
            for old in complete_checkpoints(self._folder)[: -self._config.keep_last]:
                shutil.rmtree(old)
        self._saved_tokens = state.tokens
        self._groups.barrier()

    def load_newest(self, state: TrainState) -> None:
        """Put the newest checkpoint into the state and its engine. ValueError if there is none or it is of another
        model.
        """
        found = complete_checkpoints(self._folder)
        if not found:
            raise ValueError(
                f"{self._folder} holds no checkpoint to resume from; remove {self._folder.parent} and start again"
            )
        folder = found[-1]
        document = read_state(folder)
        require_identity(folder, document["identity"], self._identity)
        weights = read_part(folder, "weights")
        named: dict[str, dict[str, Tensor]] = {name: {"weight": tensor} for name, tensor in weights.items()}
        for key in MOMENTS:
            for name, tensor in read_part(folder, key).items():
                named[name][key] = tensor
        require_parameters(folder, weights, dict(state.engine.module.named_parameters()))
        state.engine.load_named_state(named, document["num_updates"])
        state.tokens, state.step, state.cursor = document["tokens"], document["step"], document["cursor"]
        self._saved_tokens = state.tokens


def require_identity(folder: Path, saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """ValueError, naming the first difference, unless the checkpoint was made with the same model and tokenizers."""
    for key in wanted:
        if saved.get(key) != wanted[key]:
            raise ValueError(
                f"checkpoint {folder} was made with another {key} "
                f"({_short(saved.get(key))}, here {_short(wanted[key])}); use the same {key}, or another run directory"
            )


def require_parameters(folder: Path, saved: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """ValueError, naming the first difference, unless names and shapes agree."""
    for name in sorted(saved.keys() | wanted.keys()):
        shapes = [tuple(tensors[name].shape) if name in tensors else "missing" for tensors in (saved, wanted)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"checkpoint {folder} is of another model ({name}: {shapes[0]} there, {shapes[1]} here); "
                "use the run that wrote it"
            )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
