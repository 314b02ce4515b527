"""Pickles of plain data are read as they were; one that would call anything is refused, uncalled."""

import os
import pickle

import pytest

from triptych.launch.postmortem.plain_pickle import read_plain_pickle

DATA = {
    "version": "2.4",
    "entries": [{"id": 2**40, "sizes": [[1, 2], []], "state": None, "ok": True, "t": (1, 2.5), "u": (1, 2, 3, 4)}] * 3,
    "many": list(range(3000)),
    "empty": ((), {}, "é"),
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_is_read(protocol):
    assert read_plain_pickle(pickle.dumps(DATA, protocol=protocol)) == DATA


class Calls:
    def __reduce__(self):
        return os.mkdir, ("called",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_calls_is_refused(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="is not carried out"):
        read_plain_pickle(pickle.dumps({"entries": [Calls()]}, protocol=protocol))
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize("cut", [0, 1, 5, -2])
def test_a_file_that_is_cut_is_refused(cut):
    with pytest.raises(ValueError, match="no plain data"):
        read_plain_pickle(pickle.dumps(DATA)[:cut])
