"""From a record to one HTML page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
import yaml
from markupsafe import Markup

from triptych.launch.profile.document import CONVENTION
from triptych.launch.profile.page.template import FOOT, HEAD, PROFILE, STYLE, SWEEP
from triptych.launch.profile.record import MEMORY_PARTS, PARTS, ProfileRecord
from triptych.launch.report.numbers import percent, short
from triptych.launch.report.page.style import CSS

_GIB = 2**30


@dataclass(kw_only=True, slots=True, frozen=True)
class Bar:
    """width, tick: percent of the longest."""

    name: str
    text: str
    width: float
    colour: int = 0
    tick: float | None = None


def render(record: ProfileRecord) -> str:
    """The whole page; text from the record is escaped everywhere."""
    sections = ["Time", "Memory", "Operations", *(["Kernels"] if record.kernels else []), "Run"]
    word = "operators" if record.device == "CPU" else "kernels"
    return page(
        "profile",
        {
            "title": f"{record.run} on {record.num_devices} x {record.device}",
            "lead": f"{record.steady_words}, {record.num_steps} timed steps, data {record.data}.",
            "sections": sections,
            "facts": facts(record),
            "times": time_bars(record),
            "time_note": _time_note(record),
            "memory": memory_bars(record),
            "memory_note": "Measured, of the process that held most; a mark shows what was predicted. What is "
            "predicted of gradients has the buffers where they are gathered.",
            "rates": rate_bars(record),
            "convention": CONVENTION,
            "kernels": _kernels(record),
            "kernel_word": word,
            "kernel_note": ", ".join(f"{kind} {percent(share)}" for kind, share in record.kernel_shares.items()),
            "run_facts": _run_facts(record),
            "settings": yaml.safe_dump(record.settings, sort_keys=False, allow_unicode=True),
            "commit": record.commit,
            "json_name": (record.page or "").replace(".html", ".json"),
        },
    )


def page(name: str, content: Mapping[str, Any]) -> str:
    """One of the templates, filled in."""
    sources = {"head": HEAD, "foot": FOOT, "profile": PROFILE, "sweep": SWEEP}
    environment = jinja2.Environment(
        loader=jinja2.DictLoader(sources), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    return environment.get_template(name).render({"css": Markup(CSS + STYLE), **content})


def facts(record: ProfileRecord) -> list[tuple[str, str]]:
    """Headline figures."""
    mfu = record.mfu["as_run"]
    return [
        (short(record.tokens_per_second), "tokens/s"),
        (f"{1e3 * record.step_seconds:.1f}", "ms a step"),
        (f"{record.tflops_per_device['as_run']:.3g}", "TFLOP/s a device, as run"),
        ("unknown" if mfu is None else percent(mfu), "MFU, as run"),
        (f"{record.peak_bytes / _GIB:.2f}", "GiB at most"),
        (short(record.parameters), "parameters"),
    ]


def time_bars(record: ProfileRecord) -> list[Bar]:
    """A stretch for each part."""
    total = sum(record.part_seconds.values()) or 1.0
    return [
        Bar(
            name=part,
            text=f"{1e3 * seconds:.1f} ms, {percent(seconds / total)}",
            width=round(100 * seconds / total, 3),
            colour=PARTS.index(part),
        )
        for part, seconds in record.part_seconds.items()
    ]


def memory_bars(record: ProfileRecord) -> list[Bar]:
    """Measured, with a tick where it was predicted."""
    predicted = dict(record.memory_predicted)
    predicted["gradients"] = predicted.get("gradients", 0) + predicted.pop("buffers", 0)
    longest = max([*record.memory_measured.values(), *predicted.values(), 1])
    bars = []
    for part in MEMORY_PARTS:
        if part not in record.memory_measured:
            continue
        size, expected = record.memory_measured[part], predicted.get(part)
        text = f"{short(size)}B" if expected is None else f"{short(size)}B, predicted {short(expected)}B"
        tick = None if expected is None else round(100 * expected / longest, 2)
        bars.append(Bar(name=part, text=text, width=round(100 * size / longest, 2), tick=tick))
    return bars


def rate_bars(record: ProfileRecord) -> list[Bar]:
    """TFLOP/s of one device, against what large matrices reach here and the maker's peak."""
    rates = {f"whole step, {name.replace('_', ' ')}": rate for name, rate in record.tflops_per_device.items()}
    passes = record.part_seconds.get("forward", 0.0) + record.part_seconds.get("backward", 0.0)
    if passes > 0:
        rates["both passes, computed"] = record.flops["computed"] / passes / record.num_devices / 1e12
    rates["large matrices here"] = record.matmul_tflops
    if record.peak_tflops is not None:
        rates["maker's peak"] = record.peak_tflops
    longest = max(rates.values()) or 1.0
    return [
        Bar(name=name, text=f"{rate:.3g} TFLOP/s", width=round(100 * rate / longest, 2)) for name, rate in rates.items()
    ]


def _time_note(record: ProfileRecord) -> str:
    low, high = record.step_seconds_quartiles
    whole = (
        f"At full speed {1e3 * record.step_seconds:.1f} ms, quartiles {1e3 * low:.1f} to {1e3 * high:.1f}. The parts "
        f"are of steps that wait for the device after each"
    )
    synchronised = record.synchronised_step_seconds
    whole += "." if synchronised is None else f", {1e3 * synchronised:.1f} ms together."
    if record.communication_seconds:
        exposed = record.communication_exposed_seconds or 0.0
        whole += (
            f" Collectives of a traced step ran {1e3 * record.communication_seconds:.1f} ms, {1e3 * exposed:.1f} of "
            "them with no computation beside them."
        )
    return whole


def _kernels(record: ProfileRecord) -> Sequence[Mapping[str, Any]]:
    total = record.step_seconds
    return [
        {
            "name": entry["name"],
            "kind": entry["kind"],
            "milliseconds": f"{1e3 * entry['seconds']:.2f}",
            "share": percent(entry["seconds"] / total),
            "calls": entry["calls"],
        }
        for entry in record.kernels
    ]


def _run_facts(record: ProfileRecord) -> list[tuple[str, str]]:
    layout = (
        f"{record.tensor} tensor x {record.pipeline} pipeline x {record.data_ranks} data parallel, ZeRO-"
        f"{record.zero_stage}, {record.precision}, recomputation {record.recompute}, attention {record.attention}"
    )
    shape = f"{record.micro_batches_per_step} x {record.micro_batch} rows of {record.row_length} on each data rank"
    saving = "not measured"
    if record.checkpoint_bytes is not None:
        saving = (
            f"{short(record.checkpoint_bytes)}B; {record.checkpoint_blocking_seconds:.3f} s of waiting, "
            f"{record.checkpoint_background_seconds:.3f} s in the background"
        )
    return [
        ("command", record.command),
        ("processor", f"{record.processor}, {record.threads} threads a process"),
        ("load", f"{record.load[0]:.1f} before, {record.load[1]:.1f} after"),
        ("layout", layout),
        ("a step", shape),
        ("a checkpoint", saving),
        ("versions", ", ".join(f"{name} {found}" for name, found in record.versions.items() if found)),
        ("trace", record.trace or "none"),
    ]
