"""What a run writes down: every record with the hardware, versions, convention and commit that it belongs to."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from triptych.kernels.flash_sigmoid.bench.cases import CONVENTION, Grid
from triptych.kernels.flash_sigmoid.bench.running import Record
from triptych.kernels.provenance import processor, versions

_PACKAGES = ("torch", "triton", "nvidia-cudnn-cu13", "numpy")


def document(
    records: Sequence[Record], grid: Grid, device: str, *, command: str, commit: str, note: str = ""
) -> dict[str, Any]:
    """All of it, ready for JSON. note: what else a reader must know, such as that the machine was shared."""
    cudnn = str(torch.backends.cudnn.version()) if torch.cuda.is_available() else None  # as torch sees it
    return {
        "measured": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": command,
        "commit": commit,
        "hardware": hardware(device),
        "versions": {**versions(_PACKAGES), "cudnn": cudnn},
        "convention": CONVENTION,
        "note": note,
        "ours": list(grid.ours),
        "peers": list(grid.peers),
        "goal_shape": asdict(grid.goal_shape),
        "records": list(records),
    }


def hardware(device: str) -> dict[str, Any]:
    """The device by name, the processor, threads."""
    if torch.device(device).type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return {
            "device": properties.name,
            "multiprocessors": properties.multi_processor_count,
            "memory_gib": properties.total_memory / 2**30,
            "processor": processor(),
        }
    return {"device": processor(), "threads": torch.get_num_threads()}


def write_json(folder: Path, name: str, found: dict[str, Any]) -> None:
    """`name`.json, whole or not at all. A number that is none would be read by few: ValueError."""
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"{name}.json.unfinished"
    unfinished.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")
    unfinished.replace(folder / f"{name}.json")
