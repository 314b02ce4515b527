"""The whole benchmark, executed at a tiny size on the CPU path."""

import json

import pytest
import torch

from triptych.kernels.flash_sigmoid import benchmark
from triptych.kernels.flash_sigmoid.bench.cases import Grid
from triptych.kernels.flash_sigmoid.benchmark import main

TINY = Grid(
    ours=("blocked", "gluon"),
    peers=("sdpa", "eager sigmoid"),
    lengths=(16, 32),
    head_dims=(8,),
    tokens=32,
    hidden=16,
    dtype="float32",
    num_rounds=2,
    weights_at=(256,),
    checks_instructions=False,
    num_compilers=1,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    arguments = ["--device", "cpu", "--out", str(folder), "--name", "tiny", "--commit", "abc", "--minutes", "2"]
    main([*arguments, "--lengths", "16"], TINY)
    return folder


@pytest.fixture(scope="module")
def found(folder):
    return json.loads((folder / "tiny.json").read_text())


def test_every_measurement_of_the_cpu_path_has_values(found):
    records = [record for record in found["records"] if record["contender"] in ("blocked", "sdpa", "eager sigmoid")]
    assert {record["kind"] for record in records} == {"compile", "time", "error", "weights"}
    assert [record["failed"] for record in records if "failed" in record] == []


def test_a_kernel_that_cannot_run_here_is_there_with_its_reason(found):
    reasons = [record.get("failed", "") for record in found["records"] if record["contender"] == "gluon"]
    assert reasons and all(reasons)


def test_errors_are_small(found):
    (errors,) = [
        r["values"] for r in found["records"] if r["kind"] == "error" and not r["shape"]["causal"] and "values" in r
    ]
    assert errors["out"] < 1e-6


def test_the_document_says_where_it_is_from(found):
    assert found["commit"] == "abc"
    assert found["hardware"]["threads"] >= 1
    assert found["versions"]["torch"]


def test_without_a_gpu_it_does_not_measure_something_else(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="finds no CUDA device"):
        main(["--device", "cuda"], TINY)


def test_a_run_that_ends_in_the_middle_leaves_what_it_measured(tmp_path, monkeypatch):
    def cut_short(*_):
        yield {"kind": "time"}
        raise KeyboardInterrupt

    monkeypatch.setattr(benchmark, "_SECONDS_BETWEEN_WRITES", 0.0)
    monkeypatch.setattr(benchmark, "_measured", cut_short)
    with pytest.raises(KeyboardInterrupt):
        main(["--device", "cpu", "--out", str(tmp_path), "--name", "cut"], TINY)
    assert json.loads((tmp_path / "cut.json").read_text())["records"] == [{"kind": "time"}]


def test_table_and_picture_are_beside_it(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["tiny.json", "tiny.md", "tiny.png"]
