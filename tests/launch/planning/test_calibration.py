"""Factors are found again from steps that the model itself has timed with others."""

import dataclasses
import json
from dataclasses import replace

import pytest

from triptych.configs.registry import named_run
from triptych.configs.tree import to_mapping
from triptych.launch.planning.calibration import calibrated, observation
from triptych.launch.planning.hardware.devices import DEVICES
from triptych.launch.planning.least_squares import fit_factors
from triptych.launch.planning.model.assumptions import default_assumptions
from triptych.launch.planning.model.step import step_time
from triptych.launch.planning.runs import workload_of
from triptych.launch.profile.record import ProfileRecord, read_record

H200 = DEVICES["h200"]
DEFAULT = default_assumptions(H200)
TRUE = replace(DEFAULT, matmul_efficiency=0.72, attention_efficiency=0.35)


def profiled(folder, name, world_size, *, device="NVIDIA H200", precision="bf16", parts=None):
    """A profile of a run whose steps take what the model says under TRUE."""
    run = named_run(name)
    run = replace(run, fit=replace(run.fit, engine=replace(run.fit.engine, precision=precision)))
    work = workload_of(run, world_size)
    time = step_time(work, H200, TRUE)
    positions = work.batch * work.rows.length
    modalities = ("text", "image", "audio")
    known = {
        "schema": "triptych profile",
        "version": ProfileRecord.__dataclass_fields__["version"].default,
        "run": name,
        "settings": to_mapping(run),
        "device": device,
        "num_devices": world_size,
        "batch": work.batch,
        "micro_batch": work.micro_batch,
        "step_seconds": time.seconds,
        "part_seconds": parts
        or {
            "forward": time.matmul + time.attention + time.memory + time.launches,
            "communication": 0.0,
            "optimizer": time.optimizer,
        },
        "tokens": work.tokens,
        "positions": positions,
        "attended_pairs": positions * work.rows.attended,
        "projected_rows": {m: positions * h.share for m, h in zip(modalities, work.shape.heads, strict=True)},
        "masked_rows": {m: positions * h.share * h.masked for m, h in zip(modalities, work.shape.heads, strict=True)},
    }
    fields = {
        field.name: known.get(field.name, _filler(str(field.type))) for field in dataclasses.fields(ProfileRecord)
    }
    path = folder / f"{name}-{world_size}.json"
    path.write_text(json.dumps(fields))
    return path


def _filler(kind):
    kind = kind.removeprefix("<class '")
    if kind.endswith("| None"):
        return None
    start = {"list": [], "dict": {}, "str": "", "bool": True, "int": 1, "float": 1.0}
    return next((value for name, value in start.items() if kind.startswith(name)), [0.0, 0.0])


def test_what_profiles_tell_of_is_found_again(tmp_path):
    paths = [profiled(tmp_path, name, 8) for name in ("trimodal_320m", "trimodal_1b", "trimodal_3b")]
    found = calibrated(paths, H200, DEFAULT, "bf16")
    assert max(abs(ratio - 1) for ratio in found.after.values()) < 0.05
    assert min(abs(ratio - 1) for ratio in found.before.values()) > 0.08
    assert found.assumptions.matmul_efficiency > DEFAULT.matmul_efficiency
    assert found.assumptions.attention_efficiency > DEFAULT.attention_efficiency


def test_what_no_profile_tells_of_stays(tmp_path):
    found = calibrated([profiled(tmp_path, "trimodal_320m", 8)], H200, DEFAULT, "bf16")
    assert found.assumptions.network_efficiency == pytest.approx(DEFAULT.network_efficiency, rel=1e-3)


def test_a_profile_of_another_device_is_refused(tmp_path):
    path = profiled(tmp_path, "trimodal_320m", 8, device="NVIDIA A100-SXM4-80GB")
    with pytest.raises(ValueError, match="was measured on NVIDIA A100-SXM4-80GB, and --gpu is h200"):
        calibrated([path], H200, DEFAULT, "bf16")


def test_a_profile_of_another_precision_is_refused(tmp_path):
    path = profiled(tmp_path, "trimodal_320m", 8, precision="fp32")
    with pytest.raises(ValueError, match="was measured in fp32, and the run is in bf16"):
        calibrated([path], H200, DEFAULT, "bf16")


def test_a_device_of_ones_own_is_told_how_to_be_known(tmp_path):
    path = profiled(tmp_path, "trimodal_320m", 8, device="NVIDIA L40S")
    with pytest.raises(ValueError, match="say `name: NVIDIA L40S` in its file"):
        calibrated([path], replace(H200, name="mine"), DEFAULT, "bf16")


def test_parts_that_hold_messages_are_not_taken_for_computing(tmp_path):
    """As in a profile of several processes without a trace."""
    path = profiled(tmp_path, "trimodal_320m", 8, parts={"forward": 10.0, "optimizer": 10.0})
    seen = observation(read_record(path), path.name, H200)
    assert (seen.computing_seconds, seen.optimizer_seconds) == (None, None)


def test_profiles_of_one_name_in_two_folders_are_two(tmp_path):
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
    found = calibrated([profiled(folder, "trimodal_320m", 8) for folder in folders], H200, DEFAULT, "bf16")
    assert len(found.after) == 2


def test_least_squares_find_a_product_of_powers():
    def residuals(factors):
        return [factors["a"] + 0 * factors["b"] - 3.0, factors["b"] / factors["a"] - 2.0] * 20

    found = fit_factors(residuals, {"a": 1.0, "b": 1.0})
    assert found == pytest.approx({"a": 3.0, "b": 6.0}, rel=0.02)
