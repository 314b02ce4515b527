"""Checkpoints of many ranks: written in one split, loaded in another; a rank that fails fails the save everywhere."""

import errno
import os

import pytest
import torch
from fabricated_runs import (
    NUM_ELEMENTS,
    PARTS,
    SHAPES,
    Split,
    advance,
    folder_at,
    is_at,
    open_store,
    state_of,
    whole,
)
from torch import distributed

from triptych.trainer.checkpoint.disk import storage
from triptych.trainer.checkpoint.disk.reading import read_part, verify_checkpoint

SPLITS_OF_4 = [Split(tensor=2, pipeline=2), Split(data=4), Split(tensor=4), Split(tensor=2, data=2), Split(pipeline=4)]


def _round_trip(folder, splits, first_version):
    """Save in each split, load in the next; the versions each rank found right."""
    found = []
    with open_store(folder, keep_last=9) as store:
        for version, split in enumerate(splits, first_version):
            store.save(state_of(split, version))
            state = state_of(splits[(version - first_version + 1) % len(splits)])
            store.load_newest(state)
            found.append(is_at(state, version))
    return found


def _load(folder, split, version):
    state = state_of(split)
    with open_store(folder) as store:
        store.load_newest(state)
    return is_at(state, version)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run" / "checkpoints"


@pytest.mark.parametrize(
    ("num_processes", "splits"), [(4, SPLITS_OF_4), (2, [Split(tensor=2), Split(pipeline=2), Split(data=2)])]
)
def test_what_one_split_saves_every_other_loads_bit_equal(run_processes, folder, num_processes, splits):
    results = run_processes(_round_trip, num_processes, folder, splits, 1)
    assert results == [[True] * len(splits)] * num_processes
    for version in range(1, len(splits) + 1):
        document = verify_checkpoint(folder_at(folder, version))
        for part in PARTS:
            for name, tensor in read_part(folder_at(folder, version), part).items():
                assert torch.equal(tensor, whole(part, name, version))
            stored = [box for tensor in document.index[part].values() for box in tensor.boxes]
            assert sum(torch.Size(box.sizes).numel() for box in stored) == NUM_ELEMENTS  # once, replicated or not
        assert len({name.rpartition("-")[0] for name in document.files_of("weights")}) == num_processes
    other = 2 if num_processes == 4 else 1
    assert run_processes(_load, other, folder, Split(data=other), len(splits)) == [True] * other


def _failing_rank(folder):
    """Rank 1's disk is full, then is not; what each rank was told, and where a load leads after each."""
    rank, told = distributed.get_rank(), []
    write, warnings = storage.write_tensors, []

    def refuse(path, shapes, tensors):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with open_store(folder, warnings) as store:
        store.save(state_of(Split(data=2), 1))
        store.wait()
        storage.write_tensors = refuse if rank == 1 else write
        store.save(state_of(Split(data=2), 2))
        with pytest.raises(OSError, match=r"could not be written \(rank 1: OSError: .*No space left") as error:
            store.wait()
        told.append(str(error.value))
        loaded = state_of(Split(data=2))
        store.load_newest(loaded)
        told.append((is_at(loaded, 1), sorted(path.name for path in folder.iterdir())))
        storage.write_tensors = write
        advance(loaded, 3)
        store.save(loaded)
        store.wait()
        if rank == 0:
            damage = next(iter(folder_at(folder, 3).glob("exp_avg-*")))
            damage.write_bytes(damage.read_bytes()[:-1])
        distributed.barrier()
        store.load_newest(loaded)
    return told, is_at(loaded, 1), warnings


def test_a_failing_rank_is_named_everywhere_and_damage_is_agreed_on(run_processes, folder):
    (told, back, warnings), (others, others_back, others_warnings) = run_processes(_failing_rank, 2, folder)
    assert told == others
    assert told[1] == (True, [folder_at(folder, 1).name])
    assert (back, others_back) == (True, True)
    assert len(warnings) == 1
    assert others_warnings == []
    assert folder_at(folder, 3).name in warnings[0]


def test_every_parameter_is_in_the_checkpoint():
    assert set(SHAPES) == {name for split in SPLITS_OF_4 for rank in range(4) for name in _names(split, rank)}


def _names(split, rank):
    from fabricated_runs import FabricatedEngine

    return FabricatedEngine(split, rank).names
