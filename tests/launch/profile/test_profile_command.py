"""The benchmark counts what was trained on, and says so in full."""

import math

import pytest
import tiny_profile
import torch
from torch import distributed

from triptych.data_pipelines.batch import Role
from triptych.data_pipelines.stream.cursor import places_of
from triptych.data_pipelines.vocabulary import MODALITIES
from triptych.launch.profile.__main__ import main
from triptych.launch.profile.measure.synthetic import synthetic_mixture
from triptych.models.trimodal.flops import forward_flops, training_flops
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement

BATCH = 8  # four micro-batches of two


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return tiny_profile.measured(tmp_path_factory.mktemp("benchmark"), trace=True)


def timed_batches(run):
    """Those of the timed steps, drawn again."""
    mixture, cursor, batches = synthetic_mixture(run), {}, []
    for _ in range(1 + tiny_profile.NUM_STEPS):
        batch, cursor = mixture.batch(cursor, BATCH, 0, 1)
        batches.append(batch)
    return batches[1:]


def num_parameters(run):
    with process_groups(Placement()) as groups, torch.device("meta"):
        return sum(parameter.numel() for parameter in run.build_model(groups).parameters())


def test_tokens_are_the_positions_without_padding_of_the_timed_steps(found):
    expected = sum(int((batch.roles_BS != Role.PADDING).sum()) for batch in timed_batches(tiny_profile.tiny_run()))
    assert round(found["results"]["tokens_per_step"] * tiny_profile.NUM_STEPS) == expected


def test_what_is_computed_has_all_positions_and_all_rows_of_the_heads(found):
    got, run = found["results"], tiny_profile.tiny_run()
    rows = {m: round(got["rows_per_step"][f"projected/{m}"] * tiny_profile.NUM_STEPS) for m in MODALITIES}
    batches = timed_batches(run)
    lengths = [length for batch in batches for length in batch.lengths_BD.flatten().tolist()]
    assert min(batch.lengths_BD.shape[1] for batch in batches) > 1
    positions = run.row_length * BATCH * tiny_profile.NUM_STEPS
    operations = got["tflops_per_device"]["computed"] * 1e12 * got["step_seconds"]["mean"] * tiny_profile.NUM_STEPS
    assert operations == pytest.approx(
        training_flops(forward_flops(run.model, lengths, rows, num_positions=positions)).total
    )


def test_the_three_counts_are_in_order(found):
    achieved = found["results"]["tflops_per_device"]
    assert 0 < achieved["as_run"] < achieved["computed"]
    assert achieved["as_run"] < achieved["dense_head"]


def test_masked_rows_are_among_the_projected(found):
    rows = found["results"]["rows_per_step"]
    assert all(0 < rows[f"masked/{m}"] <= rows[f"projected/{m}"] for m in MODALITIES)


def test_the_parts_are_within_the_step(found):
    parts = found["results"]["part_seconds"]
    assert set(parts) == {"data", "forward_backward", "step"} and min(parts.values()) > 0
    assert sum(parts.values()) <= found["results"]["step_seconds"]["mean"]


def test_every_step_trained(found):
    losses = found["results"]["losses"]
    assert len(losses) == 1 + tiny_profile.NUM_STEPS and all(map(math.isfinite, losses)) and len(set(losses)) > 1


def test_a_processor_without_a_known_peak_has_no_utilization(found):
    assert found["results"]["peak_tflops"] is None
    assert set(found["results"]["mfu"].values()) == {None}


def test_a_number_carries_what_it_belongs_to(found):
    assert found["commit"] == "abc"
    assert found["hardware"]["device"] == "CPU" and found["hardware"]["num_devices"] == 1
    assert {"python", "torch", "deepspeed", "megatron-core"} <= set(found["versions"])
    assert found["shapes"] == {
        "parameters": num_parameters(tiny_profile.tiny_run()),
        "row_length": 160,
        "sequence_length": 80,
        "micro_batch": 2,
        "micro_batches_per_step": 4,
        "batch": BATCH,
    }


def test_the_profile_holds_the_whole_step(found):
    shares = found["profile"]["shares"]
    assert shares["matmul"] > 0 and shares["attention"] > 0
    assert sum(shares.values()) == pytest.approx(1, abs=0.02)
    assert len(found["profile"]["top"]) == 15


def test_synthetic_sequences_have_the_shares_of_the_run():
    run = tiny_profile.tiny_run()
    batch, cursor = synthetic_mixture(run).batch({}, 400, 0, 1)
    tokens = {name: place.tokens for name, place in places_of(cursor, list(run.data.sources)).items()}
    for name, entry in run.data.sources.items():
        assert tokens[name] / sum(tokens.values()) == pytest.approx(entry.weight, abs=0.01)
    assert sum(tokens.values()) == int(batch.num_tokens)


def measured_on_two(folder, *settings):
    rank = distributed.get_rank()
    return tiny_profile.measured(
        folder, *settings, placement=Placement(rank=rank, world_size=2, local_rank=rank), num_micro_batches=4
    )


def test_two_stages_are_one_model_on_two_devices(found, run_processes, tmp_path):
    staged, _ = run_processes(measured_on_two, 2, tmp_path, "fit.parallel.pipeline=2")
    assert staged["shapes"] == found["shapes"]
    assert staged["results"]["tokens_per_step"] == found["results"]["tokens_per_step"]
    assert staged["results"]["losses"] == pytest.approx(found["results"]["losses"])
    seconds = [each["results"]["step_seconds"]["mean"] for each in (staged, found)]
    achieved = [each["results"]["tflops_per_device"]["as_run"] for each in (staged, found)]
    assert 2 * achieved[0] * seconds[0] == pytest.approx(achieved[1] * seconds[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trimodal_320n"], "did you mean trimodal_320m?"),
        (["trimodal_320m", "--set", "model.hiden_size=64"], "did you mean hidden_size?"),
        (["trimodal_320m", "--steps", "0"], "--steps and --micro-batches are 1 or more"),
    ],
)
def test_a_wrong_option_is_one_line(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--out", str(tmp_path / "results")])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "results").exists()
