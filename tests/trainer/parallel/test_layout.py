import pytest

from triptych.trainer.parallel.layout import ParallelLayout


@pytest.mark.parametrize("name", ["tensor", "pipeline", "virtual"])
@pytest.mark.parametrize("value", [0, -2])
def test_sizes_below_one_are_refused(name, value):
    with pytest.raises(ValueError, match=f"parallel.{name} is {value}; set it to 1 or more"):
        ParallelLayout(**{name: value})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"virtual": 2}, "no pipeline to interleave; set virtual=1 or pipeline=2"),
        ({"sequence": True}, "tensor is 1; set sequence=false or tensor"),
        ({"pipeline": 2, "stage_layers": (3, 0)}, "not 2 numbers of 1 or more"),
        ({"pipeline": 2, "virtual": 2, "stage_layers": (3, 3)}, "not 4 numbers of 1 or more"),
    ],
)
def test_contradictions_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ParallelLayout(**fields)
