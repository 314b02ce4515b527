"""A run's checkpoints: when one is due, what goes in, which is loaded, which are dropped."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from triptych.trainer.checkpoint.background import Background
from triptych.trainer.checkpoint.config import CheckpointConfig
from triptych.trainer.checkpoint.disk.document import STATE, Damaged, Document, Header, encode_document, read_document
from triptych.trainer.checkpoint.disk.files import replace_text
from triptych.trainer.checkpoint.disk.folders import (
    checkpoint_folder,
    checkpoint_folders,
    complete_checkpoints,
    drop_folder,
    to_drop,
)
from triptych.trainer.checkpoint.loading import (
    fill,
    newest_sound,
    passed_over,
    require_identity,
    require_parameters,
    shared_fault,
    wanted_shapes,
)
from triptych.trainer.checkpoint.ranks import Ranks
from triptych.trainer.checkpoint.saving import write_checkpoint
from triptych.trainer.checkpoint.shards import State
from triptych.trainer.checkpoint.staging import Staging
from triptych.trainer.parallel.groups import Groups
from triptych.trainer.state import TrainState

Warn = Callable[[str], None]
"""Where a line goes that the user should read."""

_LOG = logging.getLogger(__name__)


class CheckpointStore:
    """Writes and reads `TrainState` under one folder. Every rank constructs it, and calls each method together with the
    others; each writes what it holds.

    One save at most is under way. The next one, a load and `close` wait for it, and raise what went wrong with it, on
    every rank alike: OSError if a disk refused, RuntimeError otherwise, with rank and cause.
    """

    def __init__(
        self,
        folder: Path,
        config: CheckpointConfig,
        groups: Groups,
        identity: Mapping[str, Any],
        warn: Warn = _LOG.warning,
    ) -> None:
        """identity: what a checkpoint must agree with to be loaded. warn: is told, on rank 0, of every damaged
        checkpoint.
        """
        self._folder = folder
        self._config = config
        self._identity = dict(identity)
        self._warn = warn
        self._ranks = Ranks()
        self._staging = Staging(groups.device)
        self._background = Background()
        self._saved_tokens = 0
        self._on_disk: int | None = None
        self._damaged: set[Path] = set()

    def save_if_due(self, state: TrainState) -> None:
        """Save once `every_tokens` more tokens have been seen than at the last save."""
        every = self._config.every_tokens
        if every and state.tokens // every > self._saved_tokens // every:
            self.save(state)

    def save(self, state: TrainState) -> None:
        """Save the state as it is now; it may change once this returns. Nothing to do if it was just loaded."""
        self.wait()
        if state.tokens == self._on_disk:
            return
        header = Header(
            tokens=state.tokens,
            step=state.step,
            logical_updates=state.logical_updates,
            batch=state.batch,
            cursor=dict(state.cursor),
            identity=self._identity,
            carried={name: carried.document() for name, carried in state.carried.items()},
        )
        self._saved_tokens = state.tokens
        if self._config.writing == "blocking":
            self._write(_parts(state, state.carried), header)
        else:
            copy = self._staging.copy(_parts(state, state.carried))
            self._background.start(lambda: self._write(copy, header))

    def load_newest(self, state: TrainState) -> None:
        """Put the newest sound checkpoint into the state and its engine, whatever layout wrote it.

        With a warning each: a damaged one is passed over; what the run carries and the checkpoint has not begins anew;
        what the checkpoint has and the run does not carry is left unread. ValueError, with nothing loaded, if none is
        left, or if the newest is of another format, identity or model.
        """
        self.wait()
        self._load(state, self._ranks.from_first(lambda: checkpoint_folders(self._folder)))

    def go_back(self, state: TrainState, number: int, amend: Callable[[], None]) -> None:
        """Put the `number`-th newest checkpoint into the state, or the oldest there is, and drop later ones: what led
        to them is not to be gone on from. ValueError as `load_newest`.

        amend: what the run then changes of its cursor and of the numbers that it carries. The checkpoint says so from
        then on, and a run that dies before the next one does not forget that it went back.
        """
        self.wait()
        folders = self._ranks.from_first(lambda: checkpoint_folders(self._folder))
        chosen, document = self._load(state, folders[: max(1, len(folders) - number + 1)])
        amend()
        numbers = {name: carried.document() for name, carried in state.carried.items() if not carried.held()}
        header = replace(document.header, cursor=dict(state.cursor), carried={**document.header.carried, **numbers})
        amended = encode_document(replace(document, header=header))
        self._ranks.from_first(lambda: replace_text(chosen / STATE, amended))
        later = folders[folders.index(chosen) + 1 :]
        self._ranks.from_first(lambda: [drop_folder(path) for path in later])

    def _load(self, state: TrainState, folders: list[Path]) -> tuple[Path, Document]:
        """Put the newest sound one of these folders into the state; returns it."""
        folder, document = self._find_newest(folders)
        held = _parts(state, state.carried.keys() & document.header.carried.keys())
        modules = {"weights": state.engine.module_weights()}
        for parts in (held, modules):
            require_parameters(folder, document, wanted_shapes(parts, self._ranks))
        for parts in (held, modules):
            fill(parts, folder, document, self._ranks)
        state.tokens, state.step = document.header.tokens, document.header.step
        state.logical_updates, state.batch = document.header.logical_updates, document.header.batch
        state.cursor = dict(document.header.cursor)
        self._saved_tokens = self._on_disk = state.tokens
        for name, carried in state.carried.items():
            carried.restore(document.header.carried.get(name))
        if self._ranks.is_first:
            for line in _differences(folder, document.header.carried, state.carried):
                self._warn(line)
        return folder, document

    @property
    def has_failed(self) -> bool:
        """Whether a save in the background has failed on this rank; `wait` raises it, on every rank."""
        return self._background.has_failed

    def wait(self) -> None:
        """Return when no save is under way; raise what went wrong with the last one."""
        self._background.wait()

    def close(self) -> None:
        """Wait, then give memory and process group back. The store is of no more use."""
        try:
            self.wait()
        finally:
            self._staging.close()
            self._ranks.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and self._ranks.count > 1:
            return  # a save under way needs ranks that may be gone; the process ends, and with it the save
        try:
            self.close()
        except (OSError, RuntimeError):
            if error is None:  # else the save most likely failed for the same reason, which is raised already
                raise

    def _write(self, parts: State, header: Header) -> None:
        write_checkpoint(checkpoint_folder(self._folder, header.tokens), parts, header, self._ranks)
        self._on_disk = header.tokens
        self._ranks.from_first(lambda: self._drop_old(header.tokens))

    def _drop_old(self, tokens: int) -> None:
        """Drop what is no longer kept, now that a newer one is whole; damaged ones count for nothing."""
        newest = checkpoint_folder(self._folder, tokens)
        damaged, self._damaged = self._damaged - {newest}, set()
        for path in damaged:
            if path.exists():
                drop_folder(path)
        found = [path for path in complete_checkpoints(self._folder) if path.name <= newest.name]
        for path in to_drop(found, keep_last=self._config.keep_last, keep_every_tokens=self._config.keep_every_tokens):
            drop_folder(path)

    def _find_newest(self, folders: list[Path]) -> tuple[Path, Document]:
        again = f"remove {self._folder.parent} and start again"
        if not folders:
            raise ValueError(f"{self._folder} holds no checkpoint to resume from; {again}")
        try:
            folder, document, skipped = newest_sound(
                folders, self._read, lambda path, document: shared_fault(path, document, self._ranks)
            )
        except Damaged as error:
            raise ValueError(f"no checkpoint is sound ({error}); restore one, or {again}") from None
        if self._ranks.is_first:
            for line in passed_over(skipped, folder):
                self._warn(line)
        self._damaged = set(skipped)
        return folder, document

    def _read(self, folder: Path) -> Document:
        """The index, read by rank 0; its identity is the run's."""
        document = self._ranks.from_first(lambda: read_document(folder))
        require_identity(folder, document.header.identity, self._identity)
        return document


def _parts(state: TrainState, names: Iterable[str]) -> State:
    """What this rank holds of the engine's state, and of those that the run carries under these names."""
    parts = dict(state.engine.held())
    for name in sorted(names):
        held = state.carried[name].held()
        assert parts.keys().isdisjoint(held), f"{name} has a part of another's"
        parts |= held
    return parts


def _differences(folder: Path, saved: Iterable[str], carried: Iterable[str]) -> list[str]:
    """One line for everything that either the checkpoint or the run alone has."""
    new = [f"checkpoint {folder} has no {name}; it begins anew" for name in sorted(set(carried) - set(saved))]
    return new + [
        f"checkpoint {folder} has {name}, which this run does not ask for; it is left unread"
        for name in sorted(set(saved) - set(carried))
    ]
