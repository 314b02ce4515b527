"""A run on four ranks, two tensor-parallel of two pipeline stages, and what each library's own code saves of it."""

from unittest.mock import patch

import torch
import torch.distributed as dist

from triptych.launch.run_directory import RunDirectory
from triptych.models.sharding import sharding_of
from triptych.trainer.checkpoint.disk.document import Header
from triptych.trainer.checkpoint.disk.folders import checkpoint_folder
from triptych.trainer.checkpoint.ranks import Ranks
from triptych.trainer.checkpoint.saving import write_checkpoint
from triptych.trainer.engine.config import EngineConfig
from triptych.trainer.engine.engine import Engine
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement

IDENTITY = {"model": "tiny"}


def save_all(run, folder, zero_stage, precision, layout, formats):
    """On every rank: the run's initial weights with some noise, saved natively, by DeepSpeed, and by Megatron."""
    placement = Placement(rank=dist.get_rank(), world_size=dist.get_world_size())
    with process_groups(placement, layout) as groups:
        run = with_layout(run, layout)
        chunks = run.build_chunks(groups)
        engine = Engine(chunks, EngineConfig(zero_stage=zero_stage, precision=precision), groups)
        unsettle(engine)
        if "native" in formats:
            if groups.is_first:
                RunDirectory(folder=folder / "native").start(run, "test")
            groups.barrier()
            header = Header(tokens=5, step=1, logical_updates=1.0, batch=8, cursor={}, identity=IDENTITY, carried={})
            target = checkpoint_folder(folder / "native" / "checkpoints", 5)
            ranks = Ranks()
            write_checkpoint(target, {"weights": engine.held()["weights"]}, header, ranks)
            ranks.close()
        if "deepspeed" in formats:
            engine._deepspeed.save_checkpoint(str(folder / "deepspeed"))
        if "megatron" in formats:
            save_torch_dist(engine, groups, folder / "megatron")


def with_layout(run, layout):
    from dataclasses import replace

    return replace(run, fit=replace(run.fit, parallel=layout))


def unsettle(engine):
    """Make the master weights other than initial, and than bf16 can hold, by their place in the whole parameter."""
    for held in engine.held()["weights"].values():
        for box in held.boxes:
            places = [torch.arange(at, at + size) for at, size in zip(box.offsets, box.sizes, strict=True)]
            number = sum(
                place.view([-1 if i == j else 1 for j in range(len(places))]) * (7 + 31 * i)
                for i, place in enumerate(places)
            )
            box.tensor.copy_(torch.sin(number.float()) * 0.3 + (1.0 if box.tensor.dim() == 1 else 0.0))
    engine.weights_written()


def save_torch_dist(engine, groups, folder):
    """As Megatron-LM does: SwiGLU's two halves are tensors of their own at offsets of one."""
    from megatron.core import dist_checkpointing
    from megatron.core.dist_checkpointing import ShardedTensor

    tensor = groups.collection.tp
    rank, count = tensor.rank(), tensor.size()
    state = {}
    for name, parameter in engine.named_parameters():
        sharding = sharding_of(parameter)
        if sharding.dim is None:
            state[name] = ShardedTensor.from_rank_offsets(name, parameter.data, replica_id=rank)
            continue
        for block, part in enumerate(parameter.data.chunk(sharding.stride, sharding.dim)):
            place = (sharding.dim, block * count + rank, sharding.stride * count)
            state[f"{name}/{block}"] = ShardedTensor.from_rank_offsets(name, part.contiguous(), place)
    if groups.is_first:
        folder.mkdir(parents=True)
    groups.barrier()
    # Of CUDA, megatron-core's writer takes for granted that it is there.
    with patch("torch.cuda.synchronize"), patch("torch.cuda.current_device", lambda: "cpu"):
        dist_checkpointing.save(state, str(folder))
