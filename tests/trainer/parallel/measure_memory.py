"""Memory of a rank under each ZeRO stage, measured, beside what is predicted.

    python tests/trainer/parallel/measure_memory.py --table trainer/results/memory.md

Linux only: it reads and resets the peak in /proc.
"""

import argparse
import gc
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

_HERE = Path(__file__).parent
sys.path += [str(folder) for folder in (_HERE, _HERE.parents[1]) if str(folder) not in sys.path]

import test_memory  # noqa: E402 - the paths come first
import torch.distributed as dist  # noqa: E402
from allocated_bytes import peak_allocated  # noqa: E402
from gloo_processes import Processes  # noqa: E402

from triptych.kernels.philox import Stream  # noqa: E402
from triptych.launch.planning.hardware.devices import named_device  # noqa: E402
from triptych.launch.planning.model.assumptions import default_assumptions  # noqa: E402
from triptych.launch.planning.model.memory import rank_memory  # noqa: E402
from triptych.launch.planning.model.workload import Head, Layout, Rows, Shape, Workload  # noqa: E402
from triptych.models.trimodal.model import TrimodalTransformer  # noqa: E402
from triptych.trainer.engine.config import EngineConfig  # noqa: E402
from triptych.trainer.engine.engine import Engine  # noqa: E402
from triptych.trainer.objectives.masked_diffusion import MaskedDiffusion, MaskedDiffusionConfig  # noqa: E402
from triptych.trainer.parallel.groups import process_groups  # noqa: E402
from triptych.trainer.parallel.placement import Placement  # noqa: E402

SMALL = replace(test_memory.MODEL, hidden_size=32, ffn_hidden_size=32, num_layers=1)
LARGE = replace(test_memory.MODEL, hidden_size=512, ffn_hidden_size=1536, num_layers=8)
MIB = 2**20

HEAD = """# Memory of a rank

Written by `python tests/trainer/parallel/measure_memory.py --table trainer/results/memory.md`: {parameters:.1f} million
parameters (8 layers x 512), two micro-batches of 2 x 16 tokens, so that activations are next to nothing (`--rows` and
`--positions` make more of them); data-parallel ranks under each ZeRO stage, every case in fresh processes. MiB on the
rank that holds most.

* parameters, gradients, optimizer, buffers, sum: `trainer/parallel/memory.py`; a bucket is 50 million elements,
  more than this model has.
* predicted: its `peak`, with activations as `launch/planning/model/activations.py` has them.
* allocated: the most that torch's allocator had given out, from building the model to the end of the second step: what
  a GPU's memory must hold.
* resident: the most that the process held, less what it held before, in a run without a profiler. The CPU backs only
  pages that are written, of buckets less than half here; libraries and messages come on top.
* What messages carry counts until they have ended, and not for as long as gloo's thread may hold it after that.

{hardware}; Python {python}, torch {torch}, DeepSpeed {deepspeed}; gloo on CPU; commit {commit}; {date}.

"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--positions", type=int, default=16)
    options = parser.parse_args()
    shape = replace(LARGE, sequence_length=options.positions)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        processes = Processes(name)
        for num_ranks in (2, 4):
            for case in test_memory.CASES:
                found = processes(measure, num_ranks, *case, shape, options.rows, timeout_seconds=900)
                rows.append(_row(case, num_ranks, shape, options.rows, *map(max, zip(*found, strict=True))))
                print(*rows[-1], sep=" | ", flush=True)
    columns = ("ZeRO", "precision", "ranks", "parameters", "gradients", "optimizer", "buffers", "sum", "activations")
    lines = [(*columns, "predicted", "allocated", "predicted / allocated", "resident"), ["---"] * 13, *rows]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    options.table.write_text(_head(workload(("fp32", 1), 2, shape, options.rows).shape.parameters) + table)


def measure(zero_stage, precision, shape, num_rows):
    """Bytes that the allocator gave out at most, and the most resident ones beyond those before."""
    rank, num_ranks = dist.get_rank(), dist.get_world_size()
    with process_groups(Placement(rank=rank, world_size=num_ranks, local_rank=rank)) as groups:
        steps(groups, SMALL, zero_stage, precision, 2)  # brings in what libraries load late
        before = _resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        steps(groups, shape, zero_stage, precision, num_rows)
        resident = _resident("VmHWM") - before
        gc.collect()
        gc.set_threshold(20, 2, 2)  # or what the engine leaves in cycles lives on for as long as it happens to
        allocated = peak_allocated(lambda: steps(groups, shape, zero_stage, precision, num_rows))
        return allocated, resident


def steps(groups, shape, zero_stage, precision, num_rows):
    objective = MaskedDiffusion(MaskedDiffusionConfig(), shape.vocabulary)
    batch = test_memory.batch(num_rows, shape.sequence_length)
    stream, micro_batches = Stream(seed=0), [batch, batch]
    model = TrimodalTransformer(shape, groups.collection)
    model.initialise(seed=0)
    engine = Engine([model], EngineConfig(zero_stage=zero_stage, precision=precision), groups)
    for update in (1, 2):
        engine.forward_backward(micro_batches, objective, stream)
        engine.step(test_memory.VALUES, clipping=1.0, num_updates=update)


def workload(case, num_ranks, shape, num_rows):
    """As the planner has it. Text is all that there is: half of it masked, at the most three quarters."""
    precision, zero_stage = case
    capacity = MaskedDiffusionConfig().head_capacity
    heads = [Head(columns=shape.head_columns(m), share=capacity, most=capacity) for m in ("image", "audio")]
    text = Head(columns=shape.head_columns("text"), share=0.5, most=0.625)
    return Workload(
        shape=Shape(
            num_layers=shape.num_layers,
            hidden_size=shape.hidden_size,
            num_heads=shape.num_attention_heads,
            num_groups=shape.num_query_groups,
            ffn_hidden_size=shape.ffn_hidden_size,
            gated=True,
            embedding_rows=shape.embedding_rows,
            heads=(text, *heads),
            qk_norm=True,
        ),
        rows=Rows(length=shape.sequence_length, attended=shape.sequence_length, causal=False),
        layout=Layout(data=num_ranks, zero_stage=zero_stage),
        batch=2 * num_rows * num_ranks,
        micro_batch=num_rows,
        precision=precision,
    )


def _resident(name):
    """Bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _row(case, num_ranks, shape, num_rows, allocated, resident):
    zero_stage, precision = case
    device = named_device("h100")  # of which nothing is asked
    work = workload((precision, zero_stage), num_ranks, shape, num_rows)
    predicted = rank_memory(work, device, default_assumptions(device), form="cpu")
    held = predicted.held
    parts = (held.parameters, held.gradients, held.optimizer, held.buffers, held.total, predicted.activations.total)
    amounts = [f"{part / MIB:.0f}" for part in (*parts, predicted.allocated, allocated)]
    ratio = f"{predicted.allocated / allocated:.2f}"
    return [str(zero_stage), precision, str(num_ranks), *amounts, ratio, f"{resident / MIB:.0f}"]


def _head(parameters):
    describe = ["git", "describe", "--always", "--dirty"]
    processors = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return HEAD.format(
        parameters=parameters / 1e6,
        hardware=f"{os.cpu_count()} cores ({processors[0].partition(':')[2].strip()})" if processors else "CPU",
        python=platform.python_version(),
        torch=version("torch"),
        deepspeed=version("deepspeed"),
        commit=subprocess.run(describe, capture_output=True, text=True, check=False, cwd=_HERE).stdout.strip(),
        date=time.strftime("%Y-%m-%d"),
    )


if __name__ == "__main__":
    main()
