"""torch.distributed.checkpoint's storage seam over our folder: safetensors and JSON where its own would pickle."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, ReadItem, SavePlan, SavePlanner, WriteItem
from torch.distributed.checkpoint.storage import StorageReader, StorageWriter, WriteResult
from torch.futures import Future

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
from triptych.trainer.checkpoint.disk.folders import commit_folder, make_partial_folder, partial_folder
from triptych.trainer.checkpoint.planning import flat_key, part_and_name, tensor_metadata

FILE_BYTES = 2**30
"""A rank begins another file of a part after this much: so several ranks can verify what one wrote."""


@dataclass(kw_only=True, slots=True, frozen=True)
class _Written:
    box: StoredBox
    file: StoredFile


class FolderWriter(StorageWriter):
    """Writes one checkpoint to `target`. Every rank has one; rank 0's makes the folder and, once every rank's files
    are on the disk, writes the index and gives the folder its name.
    """

    def __init__(self, target: Path, header: Header, rank: int, *, file_bytes: int = FILE_BYTES) -> None:
        self._target = target
        self._header = header
        self._rank = rank
        self._file_bytes = file_bytes

    def reset(self, checkpoint_id: Any = None) -> None: ...

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None: ...

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """On rank 0, while the others wait for their plans."""
        make_partial_folder(self._target)
        return plans

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        results: list[WriteResult] = []
        for name, items in self._files(plan.items):
            boxes = [_stored_box(item, name) for item in items]
            file = write_tensors(
                partial_folder(self._target) / name,
                {box.key: box.sizes for box in boxes},
                (_tensor(planner.resolve_data(item)) for item in items),
            )
            results += [
                WriteResult(index=item.index, size_in_bytes=_num_bytes(item), storage_data=_Written(box=box, file=file))
                for item, box in zip(items, boxes, strict=True)
            ]
        return _done(results)

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """On rank 0, after every rank has written and forced its files to the disk."""
        written = [(result.index.fqn, result.storage_data) for rank in results for result in rank]
        files = {each.box.file: each.file for _, each in written}
        for name, file in files.items():
            path = partial_folder(self._target) / name
            if not path.is_file() or path.stat().st_size != file.num_bytes:
                raise OSError(f"{path} is not seen by rank 0; keep checkpoints on a disk that all ranks share")
        document = Document(header=self._header, files=files, index=_index(metadata, written))
        write_text(partial_folder(self._target) / STATE, encode_document(document))
        commit_folder(self._target)

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        return False  # never chosen by a path alone

    def _files(self, items: Iterable[WriteItem]) -> Iterator[tuple[str, list[WriteItem]]]:
        """(name, what goes in): a file holds boxes of one part only, so that a part can be read alone."""
        by_part: dict[str, list[list[WriteItem]]] = {}
        for item in items:
            files = by_part.setdefault(part_and_name(item.index.fqn)[0], [[]])
            if files[-1] and sum(map(_num_bytes, files[-1])) + _num_bytes(item) > self._file_bytes:
                files.append([])
            files[-1].append(item)
        for part, files in by_part.items():
            for number, file in enumerate(files):
                yield f"{part.replace('/', '.')}-rank{self._rank:04d}-{number:03d}.safetensors", file


class FolderReader(StorageReader):
    """Reads boxes of a checkpoint whose files have been verified."""

    def __init__(self, folder: Path, document: Document) -> None:
        self._folder = folder
        self._tensors = {
            flat_key(part, name): tensor for part, tensors in document.index.items() for name, tensor in tensors.items()
        }
        self._boxes = {
            (key, torch.Size(box.offsets)): box for key, tensor in self._tensors.items() for box in tensor.boxes
        }

    def reset(self, checkpoint_id: Any = None) -> None: ...

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        return Metadata({key: tensor_metadata(tensor.shape, tensor.boxes) for key, tensor in self._tensors.items()})

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any) -> None: ...

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        by_file: dict[str, list[tuple[ReadItem, StoredBox]]] = {}
        for item in plan.items:
            assert item.storage_index.offset is not None
            box = self._boxes[item.storage_index.fqn, item.storage_index.offset]
            by_file.setdefault(box.file, []).append((item, box))
        for name, reads in by_file.items():
            with safe_open(self._folder / name, framework="pt") as file:
                for item, box in reads:
                    target = planner.resolve_tensor(item)
                    target.copy_(_window(file, item, box))
                    planner.commit_tensor(item, target)
        return _done(None)

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        return False


def _window(file: Any, item: ReadItem, box: StoredBox) -> Tensor:
    """The part of a stored box that is asked for, and nothing around it."""
    if tuple(item.lengths) == box.sizes:
        return file.get_tensor(box.key)
    ranges = zip(item.storage_offsets, item.lengths, strict=True)
    return file.get_slice(box.key)[tuple(slice(at, at + length) for at, length in ranges)]


def _index(metadata: Metadata, written: Iterable[tuple[str, _Written]]) -> dict[str, dict[str, StoredTensor]]:
    boxes: dict[str, list[StoredBox]] = {}
    for key, each in written:
        boxes.setdefault(key, []).append(each.box)
    index: dict[str, dict[str, StoredTensor]] = {}
    for key, tensor in metadata.state_dict_metadata.items():
        part, name = part_and_name(key)
        shape = tuple(tensor.size)  # type: ignore[union-attr] - there are no others than tensors
        index.setdefault(part, {})[name] = StoredTensor(shape=shape, boxes=tuple(boxes[key]))
    return index


def _stored_box(item: WriteItem, file: str) -> StoredBox:
    assert item.tensor_data is not None
    offsets, sizes = tuple(item.tensor_data.chunk.offsets), tuple(item.tensor_data.chunk.sizes)
    key = f"{item.index.fqn}@{','.join(map(str, offsets))}"
    return StoredBox(offsets=offsets, sizes=sizes, file=file, key=key)


def _num_bytes(item: WriteItem) -> int:
    assert item.tensor_data is not None
    return 4 * item.tensor_data.chunk.sizes.numel()


def _tensor(data: Any) -> Tensor:
    assert isinstance(data, Tensor)
    return data


def _done(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future
