"""Pickles of others are read as tensors and plain data; whatever would run is refused, and does not."""

import os
import pickle
from types import SimpleNamespace

import pytest
import torch

from triptych.trainer.checkpoint.foreign.unpickling import Inert, load_index, load_tensors


class Evil:
    """Runs when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path):
    return tmp_path / "it ran"


def test_tensors_that_bring_code_are_refused(tmp_path, mark):
    torch.save({"module": {"a": torch.zeros(2)}, "more": Evil(mark)}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"x\.pt holds more than tensors") as raised:
        load_tensors(tmp_path / "x.pt", tmp_path / "x.pt")
    assert not mark.exists() and "\n" not in str(raised.value)


def test_an_index_that_brings_code_is_refused(tmp_path, mark):
    (tmp_path / ".metadata").write_bytes(pickle.dumps({"state_dict_metadata": Evil(mark)}))
    with pytest.raises(ValueError, match=r"holds more than an index \((posix|nt)\.mkdir\)"):
        load_index(tmp_path / ".metadata")
    assert not mark.exists()


def test_an_index_with_builtins_is_refused(tmp_path):
    (tmp_path / ".metadata").write_bytes(pickle.dumps(eval))
    with pytest.raises(ValueError, match=r"builtins\.eval"):
        load_index(tmp_path / ".metadata")


def test_an_index_that_is_none_is_refused(tmp_path):
    (tmp_path / ".metadata").write_bytes(pickle.dumps({}))
    with pytest.raises(ValueError, match=r"holds a dict and no index; give"):
        load_index(tmp_path / ".metadata")


@pytest.mark.parametrize("content", [b"", b"\x80\x04", b"no pickle at all"])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "x.pt").write_bytes(content)
    for load in (lambda path: load_tensors(path, path), load_index):
        with pytest.raises(ValueError, match=r"x\.pt"):
            load(tmp_path / "x.pt")


def test_deepspeed_s_own_records_do_nothing(tmp_path):
    from deepspeed.runtime.fp16.loss_scaler import LossScaler
    from deepspeed.utils.tensor_fragment import fragment_address

    torch.save({"a": LossScaler(2.0), "b": fragment_address(numel=3, start=4)}, tmp_path / "x.pt")
    found = load_tensors(tmp_path / "x.pt", tmp_path / "x.pt")
    assert isinstance(found["a"], Inert)
    assert SimpleNamespace(**vars(found["b"])).numel == 3
