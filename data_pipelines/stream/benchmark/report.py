"""Figures as a table, and what they were taken on."""

import importlib.metadata
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from triptych.data_pipelines.stream.benchmark.peers.protocol import Peer

_MILLION = 1e6


def commit() -> str:
    """Of this checkout, "unknown" where there is none."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, cwd=Path(__file__).parent
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def hardware() -> dict[str, Any]:
    """Processor, cores, memory."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return {"processor": model, "cores": os.cpu_count(), "memory_gib": round(gib, 1)}


def versions(peers: Iterable[Peer]) -> dict[str, str]:
    """Of Python, torch, numpy and the peers."""
    packages = ["torch", "numpy", *(peer.package for peer in peers if peer.package is not None)]
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}


def table(document: dict[str, Any]) -> str:
    """Markdown: medians over the repeats, lowest and highest behind them."""
    runs, shapes, machine = document["runs"], document["shapes"], document["hardware"]
    lines = [
        "| loader | million tokens/s | per CPU second | memory, MiB | first batch of 10,000 shards, s | "
        "behind 10^9 samples, s |",
        "|---|---|---|---|---|---|",
    ]
    for name in document["facts"]:
        speed, start = _of(runs, name, "speed"), _of(runs, name, "start")
        cells = [
            _figure(speed, "tokens_per_second", _MILLION),
            _figure(speed, "tokens_per_cpu_second", _MILLION),
            _figure(speed, "pss_mib", 1),
            _figure(start, "first_batch_seconds", 1),
            _far(runs, name, document["facts"][name]["resume"], shapes["far_samples"]),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    loads = [run["load_before"] for run in runs]
    lines += [
        "",
        f"Medians (lowest to highest) of {1 + max(run['repeat'] for run in runs)} runs in turn on "
        f"{machine['cores']} cores of {machine['processor']}, {machine['memory_gib']} GiB; load before each run "
        f"{min(loads):.1f} to {max(loads):.1f}. {shapes['num_workers']} workers, batches of {shapes['rows']} rows of "
        f"{shapes['row_length']:,}, texts of {shapes['speed']['mean_tokens']} tokens from the page cache, padding not "
        "counted. Memory is of all processes, shared pages once. "
        f"{', '.join(f'{key} {value}' for key, value in document['versions'].items())}; commit "
        f"{document['commit'][:12]}.",
        "",
    ]
    topics = list(next(iter(document["facts"].values())))
    lines += [f"| loader | {' | '.join(topics)} |", "|---" * (1 + len(topics)) + "|"]
    for name, facts in document["facts"].items():
        lines.append(f"| {name} | {' | '.join(facts[topic] for topic in topics)} |")
    return "\n".join(lines) + "\n"


def _of(runs: list[dict[str, Any]], name: str, purpose: str) -> list[dict[str, Any]]:
    return [run for run in runs if run["peer"] == name and run["purpose"] == purpose]


def _figure(runs: list[dict[str, Any]], field: str, unit: float) -> str:
    values = [run[field] / unit for run in runs if field in run]
    if not values:
        return next((run["failed"] for run in runs if "failed" in run), "not measured")
    digits = 0 if min(values) >= 100 else 1 if min(values) >= 10 else 2
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def _far(runs: list[dict[str, Any]], name: str, otherwise: str, samples: int) -> str:
    seek, skip = _of(runs, name, "seek"), _of(runs, name, "skip")
    if skip:
        rates = [run["samples"] / run["first_batch_seconds"] for run in skip if "first_batch_seconds" in run]
        if rates:
            rate = statistics.median(rates)
            return f"{samples / rate / 3600:,.1f} hours by what it skips, {rate:,.0f} samples/s (extrapolated)"
    return _figure(seek, "first_batch_seconds", 1) if seek else f"not measured: {otherwise}"
