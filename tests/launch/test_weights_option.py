"""`--weights NAME` of `triptych sample` and `triptych evaluate`: an average of the weights instead of them."""

import json
from dataclasses import replace

import pytest
import torch

from triptych.trainer.checkpoint.disk.document import read_document
from triptych.trainer.checkpoint.disk.folders import complete_checkpoints
from triptych.trainer.checkpoint.disk.reading import read_part
from triptych.trainer.checkpoint.ranks import Ranks
from triptych.trainer.checkpoint.saving import write_checkpoint
from triptych.trainer.checkpoint.shards import Box, Held
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement

pytest_plugins = ["command_fixtures"]


def held(tensor):
    shape = tuple(tensor.shape)
    return Held(shape=shape, boxes=(Box(offsets=(0,) * len(shape), sizes=shape, tensor=tensor),))


@pytest.fixture
def averaged(own_run):
    """A run whose newest checkpoint has two averages: "same" is the weights, "zero" is 0."""
    newest = complete_checkpoints(own_run / "checkpoints")[-1]
    weights = read_part(newest, "weights")
    parts = {"weights": weights, "ema/same": weights, "ema/zero": {n: torch.zeros_like(w) for n, w in weights.items()}}
    state = {part: {name: held(tensor) for name, tensor in tensors.items()} for part, tensors in parts.items()}
    header = replace(read_document(newest).header, carried={"ema/same": {}, "ema/zero": {}})
    with process_groups(Placement()):
        write_checkpoint(newest, state, header, Ranks())
    return own_run


def test_scores_are_those_of_the_named_weights(command, averaged):
    found = {}
    for name in ("weights", "same", "zero"):
        assert command("evaluate", averaged, "--weights", name).code == 0
        found[name] = json.loads((averaged / "evaluation.json").read_text())
    assert [scores.pop("weights") for scores in found.values()] == ["weights", "same", "zero"]
    assert found["same"] == found["weights"]
    assert found["zero"]["text_nelbo_bits_per_byte"] != found["weights"]["text_nelbo_bits_per_byte"]


def test_samples_are_those_of_the_named_weights(command, averaged, tmp_path):
    made = {}
    for name in ("weights", "same", "zero"):
        out = tmp_path / name
        assert command("sample", averaged, "--task", "text", "--out", out, "--weights", name).code == 0
        made[name] = [path.read_bytes() for path in sorted(out.iterdir())]
    assert made["same"] == made["weights"]
    assert made["zero"] != made["weights"]


@pytest.mark.parametrize("arguments", [["evaluate"], ["sample", "--prompt", "three"]], ids=["evaluate", "sample"])
def test_a_wrong_name_lists_what_there_is(command, averaged, arguments):
    name, *more = arguments
    done = command(name, averaged, *more, "--weights", "sume")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "has no weights 'sume'; use one of: weights, same, zero" in done.err


def test_damage_to_the_average_passes_its_checkpoint_over(command, averaged):
    newest = complete_checkpoints(averaged / "checkpoints")[-1]
    (path,) = newest.glob("ema.zero-*")
    path.write_bytes(path.read_bytes()[:-1])
    done = command("sample", averaged, "--task", "text", "--weights", "zero")
    assert done.code == 2
    assert f"{newest} is passed over" in done.err
    assert "use one of: weights" in done.err
