"""Peak memory and seconds of converting a large checkpoint: `python measure_conversion.py RUN WORK DATA [SETTING...]`.

Makes a native checkpoint of the run with made-up weights in WORK, one parameter at a time, then converts it to a
Hugging Face folder and back, each in a process of its own. DATA: a data folder, for its tokenizers.
"""

import subprocess
import sys
import time
from pathlib import Path

import torch

PEAK = (
    "import sys\n"
    "from triptych.launch.cli import main\n"
    "try:\n    main(sys.argv[1:])\n"
    "finally:\n    print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0], 'KiB at the peak')\n"
)
"""`getrusage` of a child starts from its parent's peak; the kernel's own mark of this process does not."""


def make(run_name, folder, data, settings):
    from triptych.configs.registry import named_run
    from triptych.configs.tree import with_settings
    from triptych.launch.conversion.sources import wanted_parameters
    from triptych.launch.run_directory import RunDirectory
    from triptych.trainer.checkpoint.disk.document import Header
    from triptych.trainer.checkpoint.disk.folders import checkpoint_folder
    from triptych.trainer.checkpoint.disk.writing import write_weights
    from triptych.trainer.parallel.groups import process_groups
    from triptych.trainer.parallel.placement import Placement

    run = with_settings(named_run(run_name), [f"data.folder={data}", *settings])
    with process_groups(Placement()) as groups:
        shapes = {name: wanted.shape for name, wanted in wanted_parameters(run, groups).items()}
    directory = RunDirectory(folder=folder)
    directory.start(run, "made up")
    directory.checkpoints.mkdir()
    header = Header(tokens=0, step=0, logical_updates=0.0, batch=None, cursor={}, identity={})
    write_weights(
        checkpoint_folder(directory.checkpoints, 0), shapes, lambda n: torch.randn(shapes[n]), header, zero_parts=()
    )
    print(f"{sum(map(torch.Size.numel, map(torch.Size, shapes.values()))):,} parameters")


def convert(*arguments):
    started = time.perf_counter()
    command = [sys.executable, "-c", PEAK, "convert", *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    peak = int(done.stdout.split(" KiB at the peak")[0].split()[-1]) / 2**20
    print(f"{' '.join(map(str, arguments))}: {time.perf_counter() - started:.0f} s, peak {peak:.2f} GiB", flush=True)


def main(run_name, work, data, *settings):
    work = Path(work)
    make(run_name, work / "native", data, settings)
    convert(work / "native", work / "hf", "--to", "hf")
    for path in (work / "native" / "checkpoints").rglob("weights-*"):
        path.unlink()
    convert(work / "hf", work / "back", "--to", "native")


if __name__ == "__main__":
    main(*sys.argv[1:])
