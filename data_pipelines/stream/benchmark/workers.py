"""Processes that each build every n-th batch, into shared memory that is used again and again, as the trainer's loader
does it.
"""

import multiprocessing
from collections.abc import Iterator, Mapping
from dataclasses import fields
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from triptych.data_pipelines.batch import Batch
from triptych.data_pipelines.stream.benchmark.documents import ROWS
from triptych.data_pipelines.stream.benchmark.texts import text_mixture

Kinds = list[tuple[str, torch.dtype, torch.Size]]
"""Name, dtype and shape of the tensors of a batch, in their order in a slot."""

_SLOTS = 4
_SLOT_BYTES = 4 << 20


def streamed(folder: Path, cursor: Mapping[str, int], num_workers: int) -> Iterator[dict[str, torch.Tensor]]:
    """The tensors of one batch after the other; they hold until the next is asked for."""
    context = multiprocessing.get_context("fork")
    ends: list[Connection] = []
    slots = torch.empty(num_workers, _SLOTS, _SLOT_BYTES, dtype=torch.uint8).share_memory_()
    for worker in range(num_workers):
        here, there = context.Pipe()
        arguments = (there, slots[worker], folder, dict(cursor), worker, num_workers)
        context.Process(target=_work, args=arguments, daemon=True).start()
        for slot in range(_SLOTS):
            here.send(slot)
        ends.append(here)
    number = 0
    while True:
        worker = number % num_workers
        slot, kinds = ends[worker].recv()
        yield _views(slots[worker, slot], kinds)
        ends[worker].send(slot)
        number += 1


def _work(
    end: Connection, slots: torch.Tensor, folder: Path, cursor: dict[str, int], worker: int, num_workers: int
) -> None:
    torch.set_num_threads(1)
    data, number = text_mixture(folder), 0
    while True:
        if number % num_workers == worker:
            batch, cursor = data.batch(cursor, ROWS, 0, 1)
            parts = {field.name: getattr(batch, field.name) for field in fields(Batch) if "_B" in field.name}
            parts = dict(sorted(parts.items(), key=lambda part: -part[1].element_size()))  # so that all are aligned
            kinds = [(name, part.dtype, part.shape) for name, part in parts.items()]
            slot = end.recv()
            for view, part in zip(_views(slots[slot], kinds).values(), parts.values(), strict=True):
                view.copy_(part)
            end.send((slot, kinds))
        else:
            cursor = data.plan(cursor, ROWS)[1]
        number += 1


def _views(slot: torch.Tensor, kinds: Kinds) -> dict[str, torch.Tensor]:
    views, at = {}, 0
    for name, dtype, shape in kinds:
        size = shape.numel() * dtype.itemsize
        views[name] = slot[at : at + size].view(dtype).reshape(shape)
        at += size
    return views
