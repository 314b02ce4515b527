"""The demo's noise scales during training: is the readout's that of all parameters, and what does a measurement cost?
Writes a page of Markdown.

    python tests/trainer/scaling/noise_study.py DATA_FOLDER trainer/scaling/results/noise_scale.md
"""

import argparse
import os
import platform
import statistics
import subprocess
import time
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import torch

from triptych.configs.token_data import load_tokenizers
from triptych.configs.trimodal import trimodal_demo
from triptych.data_pipelines.vocabulary import MODALITIES
from triptych.kernels.philox import Stream
from triptych.trainer.fit import fit
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement
from triptych.trainer.scaling.config import NoiseScaleConfig
from triptych.trainer.scaling.noise import NoiseScale

SNAPSHOTS = (30, 300, 1000, 3000)
NUM_BATCHES = 480
NUM_BLOCKS = 12
BATCH = 16
PARTS = ("all", *MODALITIES, *(f"{modality}, readout" for modality in MODALITIES))

MODALITY_PARTS = {"all": "", "text": "heads.text.", "image": "heads.image.", "audio": "heads.audio."}


@dataclass(kw_only=True, slots=True)
class Sums:
    """Of one set of gradients. grams: [2, 2] per batch, products of its halves' gradients. blocks: mean gradient of
    each of NUM_BLOCKS runs of batches; once closed, their products.
    """

    grams: list[torch.Tensor] = field(default_factory=list)
    blocks: list[torch.Tensor] = field(default_factory=list)

    def add(self, halves_2P, index):
        self.grams.append((halves_2P @ halves_2P.T).double())
        per_block = NUM_BATCHES // NUM_BLOCKS
        mean = halves_2P.mean(0) / per_block
        if index % per_block:
            self.blocks[-1] += mean
        else:
            self.blocks.append(mean)

    def close(self):
        """Called once, after the last batch."""
        stacked = torch.stack(self.blocks)
        self.blocks = [(stacked @ stacked.T).double()]


def signal_and_noise(sums, without=None):
    """|G|^2 and S = BATCH times a batch's variance, unbiased, from batches that stay whole; one block left out."""
    keep = [block for block in range(NUM_BLOCKS) if block != without]
    products = sums.blocks[0][keep][:, keep]
    blocks = len(keep)
    signal = ((products.sum() - products.trace()) / (blocks * (blocks - 1))).item()
    squares = torch.stack([gram.mean() for gram in sums.grams]).view(NUM_BLOCKS, -1)[keep]
    return signal, BATCH * (squares.mean().item() - signal)


def scale(sums, without=None):
    signal, noise = signal_and_noise(sums, without)
    return noise / signal


def with_error(statistic):
    """A statistic and its jackknife error over blocks."""
    each = [statistic(block) for block in range(NUM_BLOCKS)]
    middle = statistics.fmean(each)
    return statistic(None), ((NUM_BLOCKS - 1) / NUM_BLOCKS * sum((one - middle) ** 2 for one in each)) ** 0.5


def by_halves(sums):
    """Estimates of |G|^2, one per batch: from the halves' difference, and from two sums of squares alone."""
    found = []
    for gram in sums.grams:
        found.append((gram[0, 1].item(), 2 * gram.mean().item() - gram[0, 0].item()))
    return torch.tensor(found, dtype=torch.float64)


def add_batch(sums, index, batch, module, objective, stream):
    """Mean gradients of a batch's halves, of each modality's loss apart, as the step divides them."""
    named = dict(module.named_parameters())
    size = sum(parameter.numel() for parameter in named.values())
    half = BATCH // 2
    prepared = [objective.prepare(batch.rows(start, start + half), stream) for start in (0, half)]
    weight = sum(targets.weight for _, targets in prepared) / 2
    of_modality = {modality: torch.zeros(2, size) for modality in MODALITIES}
    for number, (inputs, targets) in enumerate(prepared):
        outputs = module(inputs)
        for modality, into_2P in of_modality.items():
            alone = replace(targets, labels={modality: targets.labels[modality]})
            loss = objective.loss(outputs, alone).sum / weight
            gradients = torch.autograd.grad(
                loss, list(named.values()), retain_graph=True, allow_unused=True, materialize_grads=True
            )
            torch.cat([gradient.flatten() for gradient in gradients], out=into_2P[number])
    start = 0
    for name, parameter in named.items():
        if name.startswith("heads."):
            modality = name.split(".")[1]
            sums[f"{modality}, readout"].add(of_modality[modality][:, start : start + parameter.numel()], index)
        start += parameter.numel()
    for modality, halves_2P in of_modality.items():
        sums[modality].add(halves_2P, index)
    sums["all"].add(sum(of_modality.values()), index)


def snapshot(state, data, objective, stream):
    sums, cursor = {part: Sums() for part in PARTS}, state.cursor
    for index in range(NUM_BATCHES):
        batch, cursor = data.batch(cursor, BATCH, 0, 1)
        add_batch(sums, index, batch, state.engine.module, objective, stream)
    for each in sums.values():
        each.close()
    return sums


def cost(state, data, objective, stream, groups):
    """Median CPU seconds of a step's forward and backward passes: as ever, cut in two, and measured."""
    seconds, cursor = {"whole": [], "cut": [], "measured": []}, state.cursor
    for _ in range(40):
        rows, cursor = data.batch(cursor, BATCH, 0, 1)
        for kind, spent in seconds.items():
            noise = NoiseScale(NoiseScaleConfig(every_tokens=1, half_life_tokens=1), MODALITY_PARTS)
            started = time.process_time()
            cut = noise.cut(rows, BATCH, groups, tokens=0, together=1)
            micro_batches = [rows] if kind == "whole" else cut.micro_batches
            state.engine.forward_backward(micro_batches, objective, stream, cut.halves if kind == "measured" else None)
            spent.append(time.process_time() - started)
            for _, parameter in state.engine.named_parameters():
                parameter.grad = None
    return {kind: statistics.median(spent) for kind, spent in seconds.items()}


def study(folder):
    """Step to sums, and the costs."""
    run = trimodal_demo()
    run = replace(run, data=replace(run.data, folder=str(folder)))
    found, last = {}, max(SNAPSHOTS)
    placement = Placement(rank=0, world_size=1, local_rank=0)
    with process_groups(placement) as groups:
        data = run.build_mixture(load_tokenizers(run.data_folder), "train")
        objective, stream = run.build_objective(), Stream(seed=run.fit.seed)
        steps = [0]

        def look(state):
            steps[0] = state.step
            if state.step in SNAPSHOTS:
                found[state.step, state.tokens] = snapshot(state, data, objective, stream)
                print(
                    state.step,
                    {part: scale(sums) for part, sums in found[state.step, state.tokens].items()},
                    flush=True,
                )

        state = fit(
            run.fit,
            chunks=run.build_chunks(groups),
            objective=objective,
            data=data,
            groups=groups,
            checkpoints=None,
            identity={},
            after_step=[look],
            stop_requested=lambda: steps[0] >= last,
        )
        return found, cost(state, data, objective, stream, groups)


def page(found, costs):
    parts = [INTRODUCTION, versions(), *compared(found), *spreads(found), expense(costs)]
    return "\n".join(parts) + "\n"


INTRODUCTION = f"""# The gradient noise scale, by modality and by readout

Written by `python tests/trainer/scaling/noise_study.py DATA_FOLDER trainer/scaling/results/noise_scale.md`. The demo
(`trimodal_demo`, logical batch {BATCH}) stops at the given steps; at the weights of that step the gradients of
{NUM_BATCHES} further batches are taken, of each modality's loss apart, on all parameters. |G|^2 is the mean product of
different blocks' gradients ({NUM_BLOCKS} blocks of batches), S is {BATCH} times the variance of a batch's gradient;
their ratio B_noise is in sequences. Errors are the jackknife's over blocks. "Readout": the same gradients on the
parameters `heads.<modality>.*` alone, which is what a run measures.
"""


def versions():
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout
    return (
        f"{os.cpu_count()} cores; Python {platform.python_version()}, torch {torch.__version__}, DeepSpeed "
        f"{version('deepspeed')}; seed 0; commit {commit.strip()}.\n"
    )


def compared(found):
    yield "## Is the readout's noise scale that of all parameters?\n"
    yield "| step | tokens | loss of | B_noise, all parameters | B_noise, readout | readout / all | S in the readout |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for (step, tokens), sums in found.items():
        for name in ("all", *MODALITIES):
            yield _compared(step, tokens, name, sums)


def spreads(found):
    yield "\n## Estimates of |G|^2 from one batch\n"
    yield "Over the true |G|^2: mean and standard deviation over batches. Halves: g1 . g2, which needs a copy of the"
    yield f"first half's gradient. Two squares: 2 |g|^2 - |g1|^2 (of {BATCH} and {BATCH // 2} sequences), which needs"
    yield "none.\n"
    yield "| step | loss of | halves: mean | deviation | two squares: mean | deviation |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for (step, _), sums in found.items():
        for name in ("all", *(part for part in PARTS if "readout" in part)):
            each = by_halves(sums[name]) / signal_and_noise(sums[name])[0]
            mean, deviation = each.mean(0), each.std(0)
            error = deviation / NUM_BATCHES**0.5
            cells = [f"{mean[i]:.2f} ± {error[i]:.2f} | {deviation[i]:.1f}" for i in (0, 1)]
            yield f"| {step} | {name} | {cells[0]} | {cells[1]} |"


def expense(costs):
    whole, cut, measured = (1000 * costs[kind] for kind in ("whole", "cut", "measured"))
    lines = (
        "\n## Cost of a measurement\n",
        "Forward and backward passes of one step of the demo, one thread, median of 40, CPU time:",
        f"{whole:.1f} ms as ever, {cut:.1f} ms as two micro-batches of {BATCH // 2}, {measured:.1f} ms measured:",
        f"{measured - whole:.1f} ms more in a measured step.",
    )
    return "\n".join(lines)


def _compared(step, tokens, name, sums):
    whole, error = with_error(lambda block: scale(sums[name], block))
    start = f"| {step} | {tokens} | {name} | {whole:.0f} ± {error:.0f} |"
    if name == "all":
        return f"{start} | | |"
    readout = sums[f"{name}, readout"]
    alone, its_error = with_error(lambda block: scale(readout, block))
    ratio, ratio_error = with_error(lambda block: scale(readout, block) / scale(sums[name], block))
    share = signal_and_noise(readout)[1] / signal_and_noise(sums[name])[1]
    return f"{start} {alone:.0f} ± {its_error:.0f} | {ratio:.2f} ± {ratio_error:.2f} | {share:.2f} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("page", type=Path)
    arguments = parser.parse_args()
    arguments.page.parent.mkdir(parents=True, exist_ok=True)
    arguments.page.write_text(page(*study(arguments.data)))


if __name__ == "__main__":
    main()
