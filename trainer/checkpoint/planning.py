"""torch.distributed.checkpoint's planners over `State`: which rank writes which box, and which stored boxes fill ours.

Its default planners know tensors, DTensors and ShardedTensors. `HeldTensor` is a third kind, by the protocol that
DTensor uses (`torch/distributed/_checkpointable.py`). In three places torch 2.13 asks for more than the protocol, or
counts otherwise than we need; each is an override below that says so.
"""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import SavePlan, TensorWriteData, WriteItem, WriteItemType

from triptych.trainer.checkpoint.disk.document import StoredBox
from triptych.trainer.checkpoint.shards import Box, Held, State


def flat_state(state: State) -> "dict[str, HeldTensor]":
    """The state under flat keys, as the planners take it."""
    return {flat_key(part, name): HeldTensor(held) for part, tensors in state.items() for name, held in tensors.items()}


def flat_key(part: str, name: str) -> str:
    """One string for a part's parameter."""
    assert ":" not in part
    return f"{part}:{name}"


def part_and_name(key: str) -> tuple[str, str]:
    """The inverse of `flat_key`."""
    part, _, name = key.partition(":")
    return part, name


def tensor_metadata(shape: Sequence[int], boxes: Sequence[Box | StoredBox]) -> TensorStorageMetadata:
    """A stored fp32 tensor of `shape`."""
    chunks = [_chunk(box) for box in boxes]
    return TensorStorageMetadata(TensorProperties(dtype=torch.float32), torch.Size(shape), chunks)


class HeldTensor:
    """`Held`, as torch.distributed.checkpoint sees it."""

    def __init__(self, held: Held) -> None:
        self._held = held
        self._tensors = {torch.Size(box.offsets): box.tensor for box in held.boxes}
        assert len(self._tensors) == len(held.boxes), "boxes of one rank are disjoint"

    def size(self) -> torch.Size:
        return torch.Size(self._held.shape)

    def __create_write_items__(self, fqn: str, object: object) -> list[WriteItem]:
        properties = TensorProperties(dtype=torch.float32)
        return [
            WriteItem(
                index=MetadataIndex(fqn, chunk.offsets),
                type=WriteItemType.SHARD,
                tensor_data=TensorWriteData(chunk=chunk, properties=properties, size=self.size()),
            )
            for chunk in self.__create_chunk_list__()
        ]

    def __create_chunk_list__(self) -> list[ChunkStorageMetadata]:
        return [_chunk(box) for box in self._held.boxes]

    def __get_tensor_shard__(self, index: MetadataIndex) -> Tensor:
        assert index.offset is not None
        return self._tensors[index.offset]


class HeldSavePlanner(DefaultSavePlanner):
    """Every box is written once, by the least loaded of the ranks that hold it; together they must be the whole."""

    def __init__(self) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)

    def lookup_object(self, index: MetadataIndex) -> Tensor:
        # The default finds shards only of subclasses of Tensor.
        return self.state_dict[index.fqn].__get_tensor_shard__(index)

    def _dedup_save_plans(self, all_plans: list[SavePlan]) -> list[SavePlan]:
        # The default counts each box as large as its whole tensor, and boxes of one offset as the same whatever their
        # size.
        holders: dict[tuple[str, Any, Any], list[int]] = defaultdict(list)
        for rank, plan in enumerate(all_plans):
            for item in plan.items:
                holders[_identity(item)].append(rank)
        load = [0] * len(all_plans)
        writer = {}
        for box in sorted(holders, key=lambda box: (len(holders[box]) > 1, -math.prod(box[2]))):
            writer[box] = min(holders[box], key=load.__getitem__)
            load[writer[box]] += math.prod(box[2])
        return [
            dataclasses.replace(plan, items=[item for item in plan.items if writer[_identity(item)] == rank])
            for rank, plan in enumerate(all_plans)
        ]

    def create_global_plan(self, all_plans: list[SavePlan]) -> tuple[list[SavePlan], Metadata]:
        plans, metadata = super().create_global_plan(all_plans)  # refuses boxes that overlap or lie outside
        # The default counts the elements only if there are several ranks.
        for key, tensor in metadata.state_dict_metadata.items():
            assert isinstance(tensor, TensorStorageMetadata)
            covered, numel = sum(chunk.sizes.numel() for chunk in tensor.chunks), tensor.size.numel()
            if covered != numel:
                raise ValueError(f"the ranks together hold {covered} of {numel} elements of {key}; its boxes are wrong")
        return plans, metadata


class HeldLoadPlanner(DefaultLoadPlanner):
    """Fills the boxes of this rank from the stored ones that they overlap."""

    def __init__(self) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)

    def set_up_planner(
        self, state_dict: dict[str, Any], metadata: Metadata | None = None, is_coordinator: bool = False
    ) -> None:
        # The default replaces everything that is not a tensor by None, in place, on its way to meta tensors.
        self.state_dict = self.original_state_dict = state_dict
        self.metadata = metadata
        self.is_coordinator = is_coordinator

    def lookup_tensor(self, index: MetadataIndex) -> Tensor:
        return self.state_dict[index.fqn].__get_tensor_shard__(index)


def _chunk(box: Box | StoredBox) -> ChunkStorageMetadata:
    return ChunkStorageMetadata(torch.Size(box.offsets), torch.Size(box.sizes))


def _identity(item: WriteItem) -> tuple[str, Any, Any]:
    """(key, offsets, sizes): what makes a box that two ranks hold the same."""
    assert item.tensor_data is not None
    return item.index.fqn, item.index.offset, item.tensor_data.chunk.sizes
