"""Files, names and plans of a checkpoint, without a run."""

import dataclasses
import hashlib
import math

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint.metadata import Metadata

from triptych.trainer.checkpoint.disk.document import (
    Damaged,
    Document,
    Header,
    StoredBox,
    StoredFile,
    StoredTensor,
    encode_document,
    read_document,
)
from triptych.trainer.checkpoint.disk.files import first_fault, write_tensors
from triptych.trainer.checkpoint.disk.folders import checkpoint_folder, complete_checkpoints, to_drop
from triptych.trainer.checkpoint.disk.reading import iterate_part, read_part, verify_checkpoint
from triptych.trainer.checkpoint.disk.storage import FolderWriter
from triptych.trainer.checkpoint.loading import newest_checkpoint
from triptych.trainer.checkpoint.planning import HeldSavePlanner, flat_state
from triptych.trainer.checkpoint.shards import Box, Held

HEADER = Header(
    tokens=100,
    step=3,
    logical_updates=2.0,
    batch=8,
    cursor={"text": 5},
    identity={"model": "m", "rate": 0.1},
    carried={"ema/slow": {"tokens": 100, "logical_updates": 0.1}},
)
TENSORS = {"a": torch.arange(12.0).view(3, 4), "b/c": torch.tensor(3.0), "0.weight": torch.ones(5)}


def planned(states):
    """Each rank's plan, after all have been gathered: what it writes, and the planner that finds the tensors."""
    planners = [HeldSavePlanner() for _ in states]
    for planner, state in zip(planners, states, strict=True):
        planner.set_up_planner(flat_state(state))
    plans, metadata = planners[0].create_global_plan([planner.create_local_plan() for planner in planners])
    return planners, plans, metadata


def write(folder, states, file_bytes=2**30):
    planners, plans, metadata = planned(states)
    writers = [FolderWriter(folder, HEADER, rank, file_bytes=file_bytes) for rank in range(len(states))]
    plans = writers[0].prepare_global_plan(plans)
    results = [w.write_data(p, q).value() for w, p, q in zip(writers, plans, planners, strict=True)]
    writers[0].finish(metadata, results)
    return [[item.index.fqn for item in plan.items] for plan in plans]


def whole(tensor):
    box = Box(offsets=(0,) * tensor.dim(), sizes=tuple(tensor.shape), tensor=tensor)
    return Held(shape=tuple(tensor.shape), boxes=(box,))


@pytest.fixture
def folder(tmp_path):
    """A checkpoint of two parts."""
    target = checkpoint_folder(tmp_path / "checkpoints", 100)
    held = {name: whole(tensor) for name, tensor in TENSORS.items()}
    write(target, [{"weights": held, "ema/0": {"a": whole(TENSORS["a"] + 1)}}])
    return target


def test_a_part_is_read_whole_by_name(folder):
    found = read_part(folder, "weights")
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in TENSORS.items())


def test_a_later_part_has_files_of_its_own(folder):
    assert torch.equal(read_part(folder, "ema/0")["a"], TENSORS["a"] + 1)
    assert read_document(folder).files_of("ema/0") == {"ema.0-rank0000-000.safetensors"}


def test_a_part_is_read_one_parameter_at_a_time(folder):
    found = iterate_part(folder, "weights")
    name, tensor = next(found)
    assert torch.equal(tensor, TENSORS[name])


def test_a_part_that_is_not_there_is_refused(folder):
    with pytest.raises(ValueError, match="has no part 'exp_avg'; choose one of weights, ema/0"):
        read_part(folder, "exp_avg")


def test_damage_is_named_when_a_part_is_read_and_when_all_is_verified(folder):
    path = folder / "weights-rank0000-000.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    for read in (verify_checkpoint, lambda folder: read_part(folder, "weights")):
        with pytest.raises(Damaged, match=r"weights-rank0000-000\.safetensors does not match its checksum"):
            read(folder)


def test_damage_of_another_part_does_not_hinder(folder):
    (folder / "ema.0-rank0000-000.safetensors").unlink()
    assert torch.equal(read_part(folder, "weights")["a"], TENSORS["a"])


def test_one_process_takes_the_newest_whose_part_is_sound(folder):
    older, newer = checkpoint_folder(folder.parent, 50), checkpoint_folder(folder.parent, 200)
    for other in (older, newer):
        write(other, [{"weights": {"a": whole(TENSORS["a"])}}])
    (newer / "weights-rank0000-000.safetensors").unlink()
    warnings = []
    assert newest_checkpoint(folder.parent, "weights", warnings.append) == folder
    assert len(warnings) == 1
    assert warnings[0].startswith(f"checkpoint {newer} is passed over")


def test_the_files_are_safetensors_of_fp32(folder):
    found = load_file(folder / "weights-rank0000-000.safetensors")
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    assert torch.equal(found["weights:a@0,0"], TENSORS["a"])


def test_a_transposed_tensor_of_another_dtype_is_written_as_it_reads(tmp_path):
    tensor = torch.arange(6, dtype=torch.bfloat16).view(2, 3).T
    stored = write_tensors(tmp_path / "file", {"a": (3, 2)}, iter([tensor]))
    assert torch.equal(load_file(tmp_path / "file")["a"], tensor.float())
    assert stored.sha256 == hashlib.sha256((tmp_path / "file").read_bytes()).hexdigest()
    assert first_fault(tmp_path, {"file": stored}) is None


def test_a_part_is_split_over_files_at_the_limit(tmp_path):
    tensors = {str(number): whole(torch.ones(10)) for number in range(5)}
    write(tmp_path / "tokens-1", [{"weights": tensors}], file_bytes=80)
    assert sorted(path.name for path in (tmp_path / "tokens-1").glob("weights-*")) == [
        f"weights-rank0000-00{number}.safetensors" for number in range(3)
    ]
    assert read_part(tmp_path / "tokens-1", "weights").keys() == tensors.keys()


def test_what_all_ranks_hold_is_written_once_and_shared_out_evenly(tmp_path):
    """Rank 0 alone holds a large box, so that the replicated ones fall to the others."""
    shared = {f"shared{number}": whole(torch.full((10,), number)) for number in range(6)}
    states = [{"weights": dict(shared)} for _ in range(3)]
    states[0]["weights"]["own"] = whole(torch.ones(60))
    written = write(tmp_path / "tokens-1", states)
    assert sorted(key for keys in written for key in keys) == sorted(f"weights:{name}" for name in [*shared, "own"])
    assert [len(keys) for keys in written] == [1, 3, 3]


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([((0, 0), (2, 4)), ((1, 0), (2, 4))], "overlapping"),
        ([((0, 0), (2, 4)), ((0, 0), (3, 4))], "overlapping"),
        ([((0, 0), (2, 4)), ((2, 0), (2, 4))], "out of bounds"),
        ([((0, 0), (2, 4)), ((2, 0), (1, 3))], "11"),
    ],
)
def test_boxes_that_do_not_tile_a_parameter_are_refused(boxes, message):
    states = []
    for offsets, sizes in boxes:
        box = Box(offsets=offsets, sizes=sizes, tensor=torch.zeros(sizes))
        states.append({"weights": {"a": Held(shape=(3, 4), boxes=(box,))}})
    with pytest.raises(ValueError, match=message):
        planned(states)


def test_a_plan_counts_every_element():
    *_, metadata = planned([{"weights": {name: whole(tensor) for name, tensor in TENSORS.items()}}])
    assert isinstance(metadata, Metadata)
    sizes = {key: math.prod(tensor.size) for key, tensor in metadata.state_dict_metadata.items()}
    assert sizes == {f"weights:{name}": tensor.numel() for name, tensor in TENSORS.items()}


def test_the_document_comes_back_as_it_went(tmp_path):
    box = StoredBox(offsets=(0, 1), sizes=(2, 3), file="f", key="k")
    document = Document(
        header=HEADER,
        files={"f": StoredFile(sha256="0", num_bytes=24)},
        index={"weights": {"a": StoredTensor(shape=(2, 4), boxes=(box,))}},
    )
    (tmp_path / "state.json").write_bytes(encode_document(document))
    assert read_document(tmp_path) == document
    assert dataclasses.asdict(read_document(tmp_path).header) == dataclasses.asdict(HEADER)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"format": 3}', '{"format": 3, "sha256": 3}', "\xff"])
def test_a_damaged_document_is_damage(tmp_path, text):
    (tmp_path / "state.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(Damaged, match=r"state\.json"):
        read_document(tmp_path)


def test_a_document_of_the_earlier_format_is_an_error_of_another_kind(tmp_path):
    (tmp_path / "state.json").write_text('{"format": 1}')
    with pytest.raises(ValueError, match="has format 1, this version reads 3; use the version that wrote it") as error:
        read_document(tmp_path)
    assert not isinstance(error.value, Damaged)


def test_only_whole_checkpoints_are_found_oldest_first(tmp_path):
    for name in ("tokens-300", "tokens-000020", ".partial-tokens-000400", "tokens-000500", "tokens-x"):
        (tmp_path / name).mkdir()
        if "500" not in name:
            (tmp_path / name / "state.json").touch()
    assert [path.name for path in complete_checkpoints(tmp_path)] == ["tokens-000020", "tokens-300"]
    assert complete_checkpoints(tmp_path / "none") == []


@pytest.mark.parametrize(
    ("keep_last", "keep_every_tokens", "kept"),
    [
        (1, 0, [900]),
        (2, 0, [700, 900]),
        (1, 300, [300, 700, 900]),
        (1, 1000, [900]),
        (9, 300, [100, 200, 300, 400, 700, 900]),
    ],
)
def test_what_is_kept(tmp_path, keep_last, keep_every_tokens, kept):
    found = [checkpoint_folder(tmp_path, tokens) for tokens in (100, 200, 300, 400, 700, 900)]
    dropped = to_drop(found, keep_last=keep_last, keep_every_tokens=keep_every_tokens)
    assert [path for path in found if path not in dropped] == [checkpoint_folder(tmp_path, tokens) for tokens in kept]
