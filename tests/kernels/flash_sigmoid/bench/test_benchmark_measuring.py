"""Each kind of job gives numbers."""

import math

import pytest

from triptych.kernels.flash_sigmoid.bench import timing
from triptych.kernels.flash_sigmoid.bench.cases import Job
from triptych.kernels.flash_sigmoid.bench.measuring import measure


@pytest.mark.parametrize(("kind", "fields"), [("weights", {"num_keys": 16}), ("ceiling", {})])
def test_each_kind_of_job_gives_finite_numbers(kind, fields, monkeypatch):
    monkeypatch.setattr(timing, "_MATRIX_SIZES", {"cpu": (64, 128)})
    values = measure(Job(kind=kind, contender="blocked", **fields), "cpu")
    assert values and all(math.isfinite(value) for value in values.values())
