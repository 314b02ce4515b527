"""From a run to its plan: layouts, memory, failures, cost."""

import json
import math
from dataclasses import replace

import pytest

from triptych.configs.registry import named_run
from triptych.configs.tree import with_settings
from triptych.launch.cli import main
from triptych.launch.planning.hardware.devices import DEVICES, DRIVER_NAMES, named_device
from triptych.launch.planning.hardware.interconnect import Interconnect, all_reduce_seconds, gather_seconds
from triptych.launch.planning.model.assumptions import default_assumptions
from triptych.launch.planning.model.operations import step_operations
from triptych.launch.planning.model.step import step_time
from triptych.launch.planning.plan import as_document, make_plan
from triptych.launch.planning.reliability import FailureConfig, daly_interval, goodput, reliability
from triptych.launch.planning.runs import predictions, shape_of, workload_of
from triptych.launch.planning.search import judge, legal_runs, ranking, why_not
from triptych.models.trimodal.flops import forward_flops, training_flops
from triptych.trainer.parallel.refusal import is_legal
from triptych.trainer.throughput import PEAK_BF16_TFLOPS

NAMES = ["trimodal_320m", "trimodal_1b", "trimodal_3b"]
H100 = DEVICES["h100"]


@pytest.mark.parametrize(("name", "parameters"), [("trimodal_320m", 325_340_160), ("trimodal_demo", 895_200)])
def test_parameters_are_those_of_the_model(name, parameters):
    """As `triptych train --describe` counts them."""
    assert shape_of(named_run(name)).parameters == parameters


@pytest.mark.parametrize("name", NAMES)
def test_operations_of_a_step_are_those_of_the_model(name):
    """Of one document in a row: the flops that the model counts, to rounding."""
    run = named_run(name)
    work = workload_of(run, 1)
    rows = work.batch * work.rows.length
    asked = {
        modality: round(rows * head.share * head.masked)
        for modality, head in zip(("text", "image", "audio"), work.shape.heads, strict=True)
    }
    lengths = [round(work.rows.attended)] * round(work.tokens / work.rows.attended)
    expected = training_flops(forward_flops(run.model, lengths, asked)).total
    assert step_operations(work) == pytest.approx(expected, rel=1e-3)


def test_only_legal_layouts_are_looked_at_and_none_is_looked_at_twice():
    run = named_run("trimodal_1b")
    found = list(legal_runs(run, 64, H100))
    assert all(is_legal(each.plan(64)) for each in found)
    assert len({repr(each.fit) for each in found}) == len(found) > 50


def planned(run, num_devices, **failures):
    return make_plan(
        run,
        num_devices=num_devices,
        device_name="h200",
        network=None,
        profiles=[],
        failures=FailureConfig(**failures),
        price_per_gpu_hour=None,
    )


def test_settings_of_a_layout_go_with_a_run_that_states_its_layers_of_stages():
    run = with_settings(named_run("trimodal_3b"), ["fit.parallel.pipeline=2", "fit.parallel.stage_layers=[10, 14]"])
    ranked = planned(run, 64).ranking
    for each in (*ranked.best, ranked.given):
        options = [f"{path}={str(value).lower()}" for path, value in each.settings.items()]
        assert is_legal(with_settings(run, options).plan(64))
        assert with_settings(run, options).fit == each.run.fit


def test_rows_that_tensor_ranks_do_not_divide_are_not_split_along_the_sequence():
    run = with_settings(named_run("trimodal_demo"), ["model.vocabulary_multiple=8", "fit.physical_batch=16"])
    layouts = {(each.fit.parallel.tensor, each.fit.parallel.sequence) for each in legal_runs(run, 8, H100)}
    assert layouts == {(1, False), (2, False), (4, False), (8, False)}


def test_a_scheduled_batch_is_what_it_is_half_way():
    """And not the smallest that divides, which a layout is judged by."""
    run = with_settings(
        named_run("trimodal_3b"), ["fit.physical_batch={tokens: [0, 1000000000], sequences: [256, 4096]}"]
    )
    assert workload_of(run, 64).batch == 4096
    assert max(each.fit.micro_batch_per_dp_rank for each in legal_runs(run, 64, H100)) > 1


def test_a_job_that_never_ends_is_json_all_the_same():
    document = as_document(planned(named_run("trimodal_320m"), 8, mtbf_hours_per_gpu=0.0005))
    assert document["totals"]["days_with_failures"] is None
    json.dumps(document, allow_nan=False)


def test_memory_of_a_device_is_what_cuda_states():
    """79.1 GiB of an 80 GB part, as torch's errors quote it; the maker's GB are GiB."""
    memory = {name: device.memory_gib for name, device in DEVICES.items()}
    assert memory["h100"] == pytest.approx(85_520_809_984 / 2**30, rel=0.01)  # nvidia-smi: 81,559 MiB
    assert memory["a100-40gb"] == pytest.approx(42_298_834_944 / 2**30, rel=0.01)
    assert memory["h200"] == pytest.approx(143_771 / 1024, rel=0.01)
    assert memory["b200"] == pytest.approx(183_359 / 1024, rel=0.01)


def test_the_best_layouts_fit_and_are_in_order():
    ranked = ranking(named_run("trimodal_3b"), 256, H100, default_assumptions(H100))
    seconds = [each.time.seconds for each in ranked.best]
    assert all(each.memory.fits for each in ranked.best)
    assert seconds == sorted(seconds)
    assert ranked.too_large is not None
    assert ranked.too_large.time.seconds < seconds[0]


def test_a_slower_layout_is_told_what_it_loses_by():
    ranked = ranking(named_run("trimodal_3b"), 256, H100, default_assumptions(H100))
    split = next(each for each in ranked.best if each.work.layout.tensor == 2 and each.work.layout.pipeline == 1)
    assert "tensor-parallel messages" in why_not(split, ranked.best[0])


def test_parts_of_a_step_add_up():
    time = step_time(workload_of(named_run("trimodal_3b"), 64), H100, default_assumptions(H100))
    assert sum(time.parts.values()) == time.seconds
    assert time.mfu == pytest.approx(time.operations / time.seconds / 64 / 989.5e12)


def test_recomputation_costs_time_and_saves_memory():
    run = named_run("trimodal_1b")
    kept, again = (predictions(replace(run, fit=replace(run.fit, recompute=r)), 8, "h100") for r in ("none", "full"))
    assert again["tokens_per_second"] < kept["tokens_per_second"]
    assert again["peak_bytes"] < kept["peak_bytes"]


def test_a_device_that_is_not_known_has_no_predictions():
    assert predictions(named_run("trimodal_demo"), 1, "CPU") == {}
    assert set(predictions(named_run("trimodal_demo"), 1, "NVIDIA H200")) == {"tokens_per_second", "mfu", "peak_bytes"}


def test_peaks_are_those_that_utilisation_is_measured_by():
    for driver, peak in PEAK_BF16_TFLOPS.items():
        if driver in DRIVER_NAMES:
            assert named_device(driver).peak_tflops == peak


def test_a_ring_moves_all_but_one_part():
    network = Interconnect(
        node_bandwidth=100.0,
        network_bandwidth=10.0,
        node_latency_seconds=0.0,
        network_latency_seconds=0.0,
        per_node=8,
    )
    assert gather_seconds(network, 800.0, 8, 1) == pytest.approx(7.0)
    # Two nodes: each takes half of the bytes through eight adapters.
    assert gather_seconds(network, 8000.0, 16, 1) == pytest.approx(max(8000 * 7 / 8 / 100, 4000 / 8 / 10))
    # One rank of each node: each has its own adapter alone.
    assert all_reduce_seconds(network, 800.0, 2, 8) == pytest.approx(2 * 400 / 10)


def test_dalys_interval_is_the_best_by_his_own_account_of_time():
    save, restart, mean = 60.0, 300.0, 20_000.0
    best = daly_interval(save, mean)
    nearby = [goodput(best * factor, save, restart, mean) for factor in (0.7, 1.0, 1.4)]
    assert max(nearby) == nearby[1]
    assert best == pytest.approx(math.sqrt(2 * save * mean), rel=0.1)  # Young


def test_failures_of_a_cluster_are_those_of_its_devices():
    config = FailureConfig(mtbf_hours_per_gpu=1000, restart_seconds=60)
    safe = reliability(num_devices=100, checkpoint_bytes=10**11, bytes_per_device=10**9, background=True, config=config)
    assert safe.mean_seconds == 36_000
    assert safe.write_seconds == 2 + 20
    assert safe.lost_seconds == pytest.approx((safe.interval_seconds + safe.blocked_seconds) / 2 + 22 + 60)


def run_command(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main(["plan", *arguments])
    assert stopped.value.code == 0
    return capsys.readouterr().out


def test_the_command_prints_json(capsys):
    out = run_command(
        capsys,
        "trimodal_320m",
        "--gpus",
        "8",
        "--gpu",
        "h200",
        "--price-per-gpu-hour",
        "2",
        "--failures",
        "1",
        "--json",
    )
    document = json.loads(out)
    totals = document["totals"]
    assert document["fits"]
    assert document["reliability"]["failures_per_day"] == pytest.approx(1)
    assert totals["price"] == pytest.approx(2 * totals["gpu_hours_with_failures"])
    assert totals["days"] == pytest.approx(totals["tokens"] / document["chosen"]["tokens_per_second"] / 86_400)
    assert sum(document["chosen"]["memory_parts_bytes"].values()) == document["chosen"]["memory_bytes"]


def test_the_command_shows_the_settings_of_the_best_layout(capsys):
    out = run_command(capsys, "trimodal_3b", "--gpus", "256", "--gpu", "h100")
    assert "--set fit.parallel.tensor=1" in out
    assert "GiB of the fullest rank" in out


def test_where_nothing_fits_the_mend_and_the_smallest_layout_are_named(capsys):
    out = run_command(capsys, "trimodal_3b", "--gpus", "1", "--gpu", "a100-40gb")
    assert "does not fit" in out and "take more or larger GPUs" in out and "best:" not in out
    smallest = min(
        each.memory.total
        for each in (
            judge(run, 1, DEVICES["a100-40gb"], default_assumptions(DEVICES["a100-40gb"]), states_layers=False)
            for run in legal_runs(named_run("trimodal_3b"), 1, DEVICES["a100-40gb"])
        )
    )
    assert "holds least, and does not fit: tensor 1" in out and f": {smallest / 2**30:.1f} GiB of 39.4" in out


def test_a_device_of_ones_own(capsys, tmp_path):
    path = tmp_path / "mine.yaml"
    figures = {
        "peak_tflops": 100.0,
        "memory_gib": 24,
        "memory_gb_per_second": 900,
        "link_gb_per_second": 30,
        "network_gb_per_second": 10,
    }
    path.write_text("".join(f"{name}: {value}\n" for name, value in figures.items()))
    document = json.loads(run_command(capsys, "trimodal_demo", "--gpus", "1", "--gpu", str(path), "--json"))
    assert document["device"]["name"] == "mine"


@pytest.mark.parametrize(("figure", "words"), [("4.0", None), ("4.5", "give a whole number"), (".inf", "above 0")])
def test_devices_of_a_node_are_a_whole_number(tmp_path, figure, words):
    names = ("peak_tflops", "memory_gib", "memory_gb_per_second", "link_gb_per_second", "network_gb_per_second")
    path = tmp_path / "mine.yaml"
    path.write_text("".join(f"{name}: 100\n" for name in names) + f"per_node: {figure}\n")
    if words is None:
        assert list(legal_runs(named_run("trimodal_demo"), 4, named_device(str(path))))
    else:
        with pytest.raises(ValueError, match=words):
            named_device(str(path))


def test_a_plan_is_no_wider_than_eighty_columns(capsys):
    out = run_command(capsys, "trimodal_3b", "--gpus", "1024", "--gpu", "a100-40gb", "--price-per-gpu-hour", "2")
    tables = [line for line in out.splitlines() if line[:1] in (" ", "│", "┌", "└", "├")]
    assert tables and max(map(len, tables)) <= 80
    assert any("--set fit.checkpoint.every_tokens=" in line for line in tables)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--gpu", "h201"], "did you mean h200"),
        (["--gpu", "nowhere.yaml"], "is no file"),
        (["--gpus", "0"], "--gpus 0 is none"),
        (["--gpus", "11"], "no layout of trimodal_320m is legal on 11 devices"),
        (["--failures", "0"], "--failures 0 is not above 0"),
        (["--failures", "1", "--mtbf-hours-per-gpu", "5"], "say the same thing"),
        (["--interconnect", "carrier-pigeon"], "is not known"),
        (["--price-per-gpu-hour", "-1"], "is no price"),
        (["--calibrate", "nowhere.json"], "triptych profile"),
    ],
)
def test_what_makes_no_sense_is_told_in_one_line(capsys, arguments, words):
    with pytest.raises(SystemExit) as stopped:
        main(["plan", "trimodal_320m", *arguments])
    error = capsys.readouterr().err
    assert (stopped.value.code, error.count("\n")) == (2, 1)
    assert words in error
