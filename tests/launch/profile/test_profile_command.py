"""A profile counts what was trained on, times it by part, and says so in full."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import tiny_profile
import torch
from gloo_processes import Processes
from torch import distributed

from triptych.data_pipelines.batch import Role
from triptych.data_pipelines.stream.cursor import places_of
from triptych.data_pipelines.vocabulary import MODALITIES
from triptych.launch.cli import main
from triptych.launch.profile import command
from triptych.launch.profile.document import part_medians, summary
from triptych.launch.profile.measure.memory import Memory
from triptych.launch.profile.measure.synthetic import synthetic_mixture
from triptych.launch.profile.record import COUNTS, PARTS, read_record
from triptych.models.trimodal.flops import forward_flops, training_flops
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement

BATCH = 8  # four micro-batches of two
PEAK = 1 << 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("profile")


@pytest.fixture(scope="module")
def found(folder):
    return tiny_profile.measured(folder, checkpoint=True)


def timed_batches(run):
    """Those of the timed steps, drawn again."""
    mixture, cursor, batches = synthetic_mixture(run), {}, []
    for _ in range(tiny_profile.NUM_STEPS):
        batch, cursor = mixture.batch(cursor, BATCH, 0, 1)
        batches.append(batch)
    return batches


def num_parameters(run):
    with process_groups(Placement()) as groups, torch.device("meta"):
        return sum(parameter.numel() for parameter in run.build_model(groups).parameters())


def test_tokens_are_the_positions_without_padding_of_the_timed_steps(found):
    expected = sum(int((batch.roles_BS != Role.PADDING).sum()) for batch in timed_batches(tiny_profile.tiny_run()))
    assert round(found.tokens * tiny_profile.NUM_STEPS) == expected


def test_what_is_computed_has_all_positions_and_all_rows_of_the_heads(found):
    run, steps = tiny_profile.tiny_run(), tiny_profile.NUM_STEPS
    rows = {m: round(found.projected_rows[m] * steps) for m in MODALITIES}
    batches = timed_batches(run)
    lengths = [length for batch in batches for length in batch.lengths_BD.flatten().tolist()]
    assert min(batch.lengths_BD.shape[1] for batch in batches) > 1
    expected = training_flops(forward_flops(run.model, lengths, rows, num_positions=run.row_length * BATCH * steps))
    got = (found.flops_dense * steps, found.flops_attention * steps, found.flops_heads * steps)
    assert got == pytest.approx((expected.dense, expected.attention, expected.heads))


def test_the_three_counts_are_in_order(found):
    assert set(found.flops) == set(COUNTS)
    assert 0 < found.flops["as_run"] < min(found.flops["computed"], found.flops["dense_head"])


def test_masked_rows_are_among_the_projected(found):
    assert all(0 < found.masked_rows[m] <= found.projected_rows[m] for m in MODALITIES)


def test_the_parts_are_the_whole_of_a_synchronised_step(found):
    assert tuple(found.part_seconds) == PARTS
    assert min(found.part_seconds[part] for part in ("data", "prepare", "forward", "backward", "optimizer")) > 0
    assert found.synchronised_step_seconds is not None
    assert sum(found.part_seconds.values()) == pytest.approx(
        found.synchronised_step_seconds
    )  # of two steps a median is a mean


def test_exposed_communication_is_taken_out_of_the_parts_that_it_is_in():
    steps = [{"backward": 2.0, "optimizer": 1.0, **dict.fromkeys(set(PARTS) - {"backward", "optimizer"}, 0.0)}]
    got = part_medians(steps, {"backward": 0.25, "optimizer": 0.5})
    assert (got["backward"], got["communication"], got["optimizer"]) == (1.5, 1.0, 0.5)


def test_communication_that_was_not_measured_is_no_part():
    assert "communication" not in part_medians([dict.fromkeys(PARTS, 1.0)], None)


def test_every_step_trained(found):
    assert all(map(math.isfinite, found.losses)) and len(set(found.losses)) > 1


def test_a_processor_without_a_known_peak_has_no_utilization(found):
    assert found.peak_tflops is None
    assert set(found.mfu.values()) == {None} and any(
        "as_run" in line and "(unknown)" in line for line in summary(found)
    )


def test_a_number_carries_what_it_belongs_to(found):
    assert (found.commit, found.device, found.num_devices, found.attention) == ("abc", "CPU", 1, "sdpa")
    assert {"python", "torch", "deepspeed", "megatron-core"} <= set(found.versions)
    shapes = (found.parameters, found.row_length, found.micro_batch, found.micro_batches_per_step, found.batch)
    assert shapes == (num_parameters(tiny_profile.tiny_run()), 160, 2, 4, BATCH)


def test_parameters_and_optimizer_are_measured_to_what_is_predicted(found):
    for part in ("parameters", "optimizer"):
        assert found.memory_measured[part] == pytest.approx(found.memory_predicted[part], rel=0.03)


def test_gradients_are_measured_as_far_as_they_are_backed(found):
    whole = found.memory_predicted["gradients"]
    assert whole <= found.memory_measured["gradients"] < 3 * whole + 2**20


def test_a_checkpoint_was_written_and_is_gone(found, folder):
    assert found.checkpoint_bytes > 3 * 4 * found.parameters
    assert found.checkpoint_blocking_seconds > 0 and not list(folder.glob(".checkpoint-*"))


def test_the_trace_holds_the_whole_step(found):
    assert found.kernel_shares["matmul"] > 0 and found.kernel_shares["attention"] > 0
    assert sum(found.kernel_shares.values()) == pytest.approx(1, abs=0.05)
    assert len(found.kernels) == 15


def test_what_was_written_is_read_back(found, folder):
    (path,) = folder.glob("*.json")
    assert read_record(path) == found
    assert found.tree == replace(tiny_profile.tiny_run(), fit=replace(found.tree.fit, physical_batch=BATCH))


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is no profile"), ("{}", "name a JSON file"), ('{"schema": "triptych profile", "version": 0}', "version 0")],
)
def test_another_file_is_refused(text, message, tmp_path):
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_record(tmp_path / "other.json")


def test_the_page_fetches_nothing_and_names_the_parts(found, folder):
    page = (folder / found.page).read_text()
    assert "http" not in page.replace("http-equiv", "") and all(f"{part} " in page for part in PARTS)


def test_synthetic_sequences_have_the_shares_of_the_run():
    run = tiny_profile.tiny_run()
    batch, cursor = synthetic_mixture(run).batch({}, 400, 0, 1)
    tokens = {name: place.tokens for name, place in places_of(cursor, list(run.data.sources)).items()}
    for name, entry in run.data.sources.items():
        assert tokens[name] / sum(tokens.values()) == pytest.approx(entry.weight, abs=0.01)
    assert sum(tokens.values()) == int(batch.num_tokens)


def measured_on_two(folder):
    """In two stages, and in two copies whose gradients are reduced as they appear. The second process holds twice as
    much as the first, and has another clock.
    """
    rank = distributed.get_rank()
    command.time = SimpleNamespace(strftime=lambda form: f"moment-{rank}")
    Memory.peak = property(lambda self: (rank + 1) * PEAK)
    place = Placement(rank=rank, world_size=2, local_rank=rank)
    settings = ("fit.parallel.pipeline=2", "fit.engine.zero_stage=2")
    return [tiny_profile.measured(folder / setting, setting, placement=place) for setting in settings]


@pytest.fixture(scope="module")
def folder_of_two(tmp_path_factory):
    return tmp_path_factory.mktemp("on_two")


@pytest.fixture(scope="module")
def on_two(tmp_path_factory, folder_of_two):
    return Processes(tmp_path_factory.mktemp("processes"))(measured_on_two, 2, folder_of_two)[0]


def test_two_stages_are_one_model_on_two_devices(found, on_two):
    staged, _ = on_two
    assert (staged.parameters, staged.batch, staged.tokens) == (found.parameters, found.batch, found.tokens)
    assert staged.losses[: tiny_profile.NUM_STEPS] == pytest.approx(found.losses[: tiny_profile.NUM_STEPS])
    assert staged.flops == pytest.approx(found.flops)
    assert min(staged.part_seconds[part] for part in ("forward", "backward", "communication")) > 0
    assert staged.communication_kinds["send and receive"] > 0


def test_memory_is_that_of_the_process_that_held_most(on_two):
    staged, _ = on_two
    assert staged.peak_bytes == 2 * PEAK == sum(staged.memory_measured.values())
    for part in ("parameters", "optimizer"):
        assert staged.memory_measured[part] == pytest.approx(staged.memory_predicted[part], rel=0.03)


def test_files_of_one_profile_have_one_name(on_two, folder_of_two):
    names = {path.name.partition(".")[0] for path in (folder_of_two / "fit.parallel.pipeline=2").iterdir()}
    assert len(names) == 1 and next(iter(names)).endswith("moment-0")


def test_copies_of_a_model_reduce_their_gradients(on_two):
    _, copied = on_two
    assert copied.data_ranks == 2 and copied.communication_kinds["all-gather"] > 0
    assert 0 < copied.communication_exposed_seconds <= copied.communication_seconds * 1.001


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trimodal_320n"], "did you mean trimodal_320m?"),
        (["trimodal_320m", "--set", "model.hiden_size=64"], "did you mean hidden_size?"),
        (["trimodal_320m", "--steps", "0"], "--steps is 1 or more"),
        (["trimodal_320m", "--micro-batches", "0"], "--micro-batches is 1 or more"),
        (["trimodal_320m", "--data", "none"], "is none of synthetic, real"),
        (["trimodal_320m", "--sweep", "--minutes", "0"], "--minutes"),
    ],
)
def test_a_wrong_option_is_one_line(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["profile", *arguments, "--out", str(tmp_path / "results")])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "results").exists()
