"""A checkpoint's folder: what goes in comes out, whole or not at all, and damage is named."""

import errno
import json
import os

import pytest
import torch

from triptych.trainer.checkpoint.config import CheckpointConfig
from triptych.trainer.checkpoint.format import complete_checkpoints, read_part, read_state, write_checkpoint
from triptych.trainer.checkpoint.store import require_identity, require_parameters

PARTS = {"weights": {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(1)}, "exp_avg": {"a": torch.zeros(2, 3)}}
STATE = {"tokens": 12, "step": 3, "num_updates": 3, "cursor": {"text": 5}, "identity": {"model": "m"}}


@pytest.fixture
def checkpoint(tmp_path):
    write_checkpoint(tmp_path / "tokens-12", PARTS, STATE)
    return tmp_path / "tokens-12"


def test_what_goes_in_comes_out(checkpoint):
    found = {part: read_part(checkpoint, part) for part in PARTS}
    assert all(torch.equal(found[part][name], tensor) for part in PARTS for name, tensor in PARTS[part].items())
    assert read_state(checkpoint).items() >= STATE.items()


def test_a_transposed_tensor_is_kept_as_it_reads(tmp_path):
    tensor = torch.arange(6.0).reshape(2, 3).T
    write_checkpoint(tmp_path / "tokens-1", {"weights": {"a": tensor}}, STATE)
    assert torch.equal(read_part(tmp_path / "tokens-1", "weights")["a"], tensor)


def test_writing_again_takes_its_place(checkpoint):
    write_checkpoint(checkpoint, PARTS, {**STATE, "step": 4})
    assert read_state(checkpoint)["step"] == 4
    assert [path.name for path in checkpoint.parent.iterdir()] == [checkpoint.name]


def test_a_full_disk_leaves_the_old_one(checkpoint, monkeypatch):
    def refuse(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match=r"tokens-12 could not be written.*free disk space"):
        write_checkpoint(checkpoint, PARTS, {**STATE, "step": 4})
    assert read_state(checkpoint)["step"] == 3
    assert [path.name for path in checkpoint.parent.iterdir()] == [checkpoint.name]


@pytest.mark.parametrize("name", ["tokens", "step", "num_updates", "cursor", "identity", "sha256"])
@pytest.mark.parametrize("value", [None, "text"])
def test_a_damaged_field_is_named(checkpoint, name, value):
    document = {**json.loads((checkpoint / "state.json").read_text()), name: value}
    (checkpoint / "state.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=rf"state\.json is damaged \(no sound '{name}'\)"):
        read_state(checkpoint)


def test_a_flipped_bit_is_found(checkpoint):
    path = checkpoint / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ValueError, match=r"weights\.safetensors does not match its checksum"):
        read_part(checkpoint, "weights")


def test_a_part_that_never_was_is_refused(checkpoint):
    with pytest.raises(ValueError, match=r"exp_avg_sq\.safetensors"):
        read_part(checkpoint, "exp_avg_sq")


def test_only_whole_checkpoints_are_found_oldest_first(tmp_path):
    for name in ("tokens-000300", "tokens-000020"):
        write_checkpoint(tmp_path / name, PARTS, STATE)
    (tmp_path / ".partial-tokens-000400").mkdir()
    (tmp_path / "tokens-000500").mkdir()
    assert [path.name for path in complete_checkpoints(tmp_path)] == ["tokens-000020", "tokens-000300"]


def test_no_folder_holds_none(tmp_path):
    assert complete_checkpoints(tmp_path / "none") == []


@pytest.mark.parametrize("settings", [{"keep_last": 0}, {"every_tokens": -1}])
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        CheckpointConfig(**settings)


def test_another_identity_is_named(tmp_path):
    with pytest.raises(ValueError, match="another tokenizers"):
        require_identity(tmp_path, {"model": 1, "tokenizers": 2}, {"model": 1, "tokenizers": 3})


@pytest.mark.parametrize(
    ("wanted", "message"), [({"a": torch.ones(3)}, r"a: \(2,\) there, \(3,\) here"), ({}, "missing here")]
)
def test_other_parameters_are_named(tmp_path, wanted, message):
    with pytest.raises(ValueError, match=message):
        require_parameters(tmp_path, {"a": torch.ones(2)}, wanted)
