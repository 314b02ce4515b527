"""Resident memory of every rank under each ZeRO stage, beside the estimate of `triptych.trainer.parallel.memory`.

    python tests/trainer/parallel/measure_memory.py --table trainer/results/memory.md

Linux only: it reads and resets the peak in /proc.
"""

import argparse
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
from gloo_processes import Processes  # noqa: E402

from triptych.kernels.philox import Stream  # noqa: E402
from triptych.models.trimodal.model import TrimodalTransformer  # noqa: E402
from triptych.trainer.engine.config import REDUCE_BUCKET_ELEMENTS, EngineConfig  # noqa: E402
from triptych.trainer.engine.engine import Engine  # noqa: E402
from triptych.trainer.objectives.masked_diffusion import MaskedDiffusion, MaskedDiffusionConfig  # noqa: E402
from triptych.trainer.optimizer import parameter_groups  # noqa: E402
from triptych.trainer.parallel.groups import process_groups  # noqa: E402
from triptych.trainer.parallel.memory import memory_estimate  # noqa: E402
from triptych.trainer.parallel.placement import Placement  # noqa: E402

SMALL = replace(test_memory.MODEL, hidden_size=32, ffn_hidden_size=32, num_layers=1)
LARGE = replace(test_memory.MODEL, hidden_size=512, ffn_hidden_size=1536, num_layers=8)
MIB = 2**20

HEAD = """# Memory of a rank

Written by `python tests/trainer/parallel/measure_memory.py --table trainer/results/memory.md`: {parameters:.1f} million
parameters (8 layers x 512), micro-batches of 2 x 16 tokens, so that activations are next to nothing; data-parallel
ranks under each ZeRO stage, every case in fresh processes. MiB on the rank that holds most.

* parameters, gradients, optimizer, buffers, sum: `trainer/parallel/memory.py`; of the buffers, where gradients are
  gathered, the pages that a model of this size writes.
* resident: what the process holds more than before the model was built, after a second backward pass.
* peak: the most that it held in that second step, from before the forward pass to after the optimizer's step. Both were
  taken after a step of a tiny model, which brings in what libraries load late.
* peak / sum: what the optimizer's step takes for a moment is not in the estimate. Without ZeRO and in bf16 under ZeRO-1
  DeepSpeed copies up to 500 million gradients into one flat tensor to reduce them (in bf16 another time, rounded to the
  precision of communication); ZeRO-1 in fp32 puts a rank's share of the gradients together twice (read in its sources;
  with buckets of 4 million elements the peak was 557 MiB for 655 on two ranks).

{hardware}; Python {python}, torch {torch}, DeepSpeed {deepspeed}; gloo on CPU; commit {commit}; {date}.

"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--table", type=Path, required=True)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        processes = Processes(name)
        for num_ranks in (2, 4):
            for case in test_memory.CASES:
                sizes, resident, peak = max(processes(measure, num_ranks, *case), key=lambda found: found[2])
                rows.append(_row(case, num_ranks, sizes, resident, peak))
                print(*rows[-1], sep=" | ", flush=True)
    columns = ("ZeRO", "precision", "ranks", "parameters", "gradients", "optimizer", "buffers", "sum", "resident")
    lines = [(*columns, "peak", "peak / sum"), ["---"] * 11, *rows]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    options.table.write_text(_head(sum(sizes)) + table)


def measure(zero_stage, precision):
    """Sizes of the parameter groups, resident bytes after the second backward pass, and the peak of that step."""
    rank, num_ranks = dist.get_rank(), dist.get_world_size()
    with process_groups(Placement(rank=rank, world_size=num_ranks, local_rank=rank)) as groups:
        steps(groups, SMALL, zero_stage, precision)
        return steps(groups, LARGE, zero_stage, precision)


def steps(groups, shape, zero_stage, precision):
    objective = MaskedDiffusion(MaskedDiffusionConfig(), shape.vocabulary)
    stream, micro_batches = Stream(seed=0), [test_memory.batch(), test_memory.batch()]
    before = _resident("VmRSS")
    model = TrimodalTransformer(shape, groups.collection)
    model.initialise(seed=0)
    sizes = [sum(p.numel() for p in group["params"]) for group in parameter_groups(model)]
    engine = Engine([model], EngineConfig(zero_stage=zero_stage, precision=precision), groups)
    engine.forward_backward(micro_batches, objective, stream)
    engine.step(test_memory.VALUES, clipping=1.0, num_updates=1)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    engine.forward_backward(micro_batches, objective, stream)
    resident = _resident("VmRSS")
    engine.step(test_memory.VALUES, clipping=1.0, num_updates=1)
    return sizes, resident - before, _resident("VmHWM") - before


def _resident(name):
    """Bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _row(case, num_ranks, sizes, resident, peak):
    zero_stage, precision = case
    estimate = memory_estimate(
        sizes,
        zero_stage=zero_stage,
        precision=precision,
        data_ranks=num_ranks,
        bucket_elements=min(REDUCE_BUCKET_ELEMENTS, sum(sizes)),
    )
    parts = (estimate.parameters, estimate.gradients, estimate.optimizer, estimate.buffers, estimate.total)
    amounts = [f"{part / MIB:.0f}" for part in (*parts, resident, peak)]
    return [str(zero_stage), precision, str(num_ranks), *amounts, f"{peak / estimate.total:.2f}"]


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
