"""What a run shows while it trains: samples that change nothing, gauges, predictions; wandb where it is missing."""

import importlib.util
import json

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_world import make_world

from triptych.configs.registry import named_run
from triptych.configs.tree import with_settings
from triptych.configs.watching import WatchingConfig
from triptych.launch import training
from triptych.launch.run_directory import RunDirectory
from triptych.launch.training import planned, predictions, train
from triptych.launch.watching.gauges import Utilization, resident_bytes, training_flops_per_token
from triptych.launch.watching.weights_and_biases import require_wandb
from triptych.trainer.checkpoint.disk.reading import read_part
from triptych.trainer.metrics import StepRecord
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Directories of a run that draws samples and of one that does not, and both states of torch's generator."""
    world = make_world(tmp_path_factory.mktemp("world"))
    found = {}
    for every in (0, 1500):
        directory = RunDirectory(folder=world.runs / str(every))
        settings = world.settings(watch__samples_every_tokens=every, watch__num_samples=1)[1::2]
        run = with_settings(named_run("trimodal_demo"), settings)
        torch.manual_seed(5)
        if every:
            directory.folder.mkdir(parents=True)
            directory.predictions.write_text('{"tokens_per_second": 5000}')
        with process_groups(Placement()) as groups, pytest.MonkeyPatch.context() as patch:
            if not every:  # as if it ran on what the planner knows
                patch.setattr(training, "device_name", lambda groups: "NVIDIA H200")
            train(run, directory, groups, command="test")
        found[every] = directory, torch.get_rng_state()
    return found


@pytest.fixture(scope="module")
def board(outcomes):
    return EventAccumulator(str(outcomes[1500][0].tensorboard)).Reload()


def test_samples_change_nothing_of_the_training(outcomes):
    (plain, generator), (sampled, generator_too) = outcomes.values()
    assert torch.equal(generator, generator_too)
    for part in ("weights", "exp_avg", "exp_avg_sq"):
        first, second = (read_part(each.newest_checkpoint(part), part) for each in (plain, sampled))
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert [_numbers(line) for line in plain.log(0).open()] == [_numbers(line) for line in sampled.log(0).open()]


def _numbers(line):
    record = json.loads(line)
    return record["tokens"], record["gradient_norm"], record["metrics"]["loss"]


def test_every_modality_is_drawn_on_the_clock(board):
    tags = board.Tags()
    assert (tags["images"], tags["audio"]) == (["samples/t2i/0"], ["samples/t2s/0"])
    assert {"samples/text/0/text_summary", "samples/i2t/0/text_summary", "samples/t2s/0/condition/text_summary"} <= set(
        tags["tensors"]
    )
    assert all(image.step >= 1500 for image in board.Images("samples/t2i/0"))


def test_scalars_say_how_it_goes(board):
    names = set(board.Tags()["scalars"])
    assert {"nelbo/text", "ce/image/bin2", "memory/resident_bytes", "hardware/tflops_per_device"} <= names
    assert {"gradient_norm", "learning_rate", "kappa", "data/wait_seconds", "step/busy_seconds"} <= names
    assert "hardware/mfu" not in names  # of a CPU nobody knows the peak
    assert board.Scalars("predicted/tokens_per_second")[0].value == 5000


def test_the_planner_says_what_is_expected_where_nobody_has(outcomes):
    board = EventAccumulator(str(outcomes[0][0].tensorboard)).Reload()
    for name, value in planned(outcomes[0][0].read(), 1, "NVIDIA H200").items():
        assert board.Scalars(f"predicted/{name}")[0].value == pytest.approx(value)
    assert {"tokens_per_second", "predicted/tokens_per_second"} <= set(board.Tags()["scalars"])


def test_a_device_that_the_planner_does_not_know_has_nothing_to_compare():
    assert planned(named_run("trimodal_demo"), 1, "CPU") == {}


def test_a_gauge_of_known_hardware_has_a_share():
    record = StepRecord(
        step=1, tokens=100, total_tokens=100, batch_tokens=100, batch=4, kappa=1.0, seconds=2.0, learning_rate=0.1,
        gradient_norm=1.0, metrics={},
    )  # fmt: skip
    gauge = Utilization(flops_per_token=4e12, num_devices=2, peak=400.0)
    assert gauge(record) == {"hardware/tflops_per_device": 100.0, "hardware/mfu": 0.25}


def test_operations_of_a_token_are_near_six_for_each_parameter_of_a_layer():
    """Of the 3B run, with heads on what is masked alone and attention over documents."""
    run = named_run("trimodal_3b")
    layers = 12.75 * run.model.hidden_size**2 * run.model.num_layers  # 2.5 + 7.5 of feed-forward, grouped queries
    assert 5 * layers < training_flops_per_token(run) < 9 * layers


def test_ram_is_known():
    assert resident_bytes() > 2**20


def test_predictions_that_are_no_numbers_are_refused(tmp_path):
    (tmp_path / "predictions.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"is no JSON of names and numbers .*; mend or remove it"):
        predictions(tmp_path / "predictions.json")


def test_a_package_that_is_missing_is_named_before_anything_is_written(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"watch\.wandb=offline takes the package wandb, which is not installed; inst"):
        require_wandb(WatchingConfig(wandb="offline"))
