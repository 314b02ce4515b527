"""`triptych train RUN --explain`: what every group of parameters is given, from where it was found to where it runs."""

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from rich.console import Console

from triptych.configs.trimodal import TrimodalRun
from triptych.models.parameterization import ParameterKind
from triptych.models.trimodal.counts import rank_counts
from triptych.trainer.optimizer import AdamWConfig
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement
from triptych.trainer.parallel.plan import Plan
from triptych.trainer.scaling.hyper_parameters import HyperParameters
from triptych.trainer.scaling.rules import AdamWValues, decays, scale_ema_decay
from triptych.trainer.scaling.scaling import findings, planned_batches, scaling_of


def print_explanation(run: TrimodalRun, world_size: int, console: Console) -> None:
    """Per group of parameters: its values as stated (base), at the logical batch of this run's horizon and shape, and
    at each physical batch; how kappa comes about; what the guards say. The layout must be legal.
    """
    plan = run.plan(world_size)
    scaling = scaling_of(run.fit, run.facts, plan.layout, plan.data_ranks)
    planned = planned_batches(run.fit, scaling)
    batches = list(dict.fromkeys(batch for _, batch in planned))
    console.print(_summary(run, scaling.values), highlight=False, soft_wrap=True)
    for tokens, batch in planned:
        line = _batch_line(run, replace(plan, batch=batch), scaling.values, tokens)
        console.print(line, highlight=False, soft_wrap=True)
    console.print(_values_table(run, scaling.values, batches), highlight=False, soft_wrap=True)
    for line in _averages(run, scaling.values, batches):
        console.print(line, highlight=False, soft_wrap=True)
    for batch in batches:
        for finding in findings(run.fit, run.facts, batch):
            console.print(f"{finding.severity} at batch {batch:,}: {finding.text}", highlight=False, soft_wrap=True)


def _summary(run: TrimodalRun, values: HyperParameters) -> str:
    fit, facts = run.fit, run.facts
    base_tokens = fit.scaling.base_tokens or fit.total_tokens
    lines = [
        f"base      {fit.logical_batch:,} rows, {base_tokens:,} tokens" + _base_shape(run),
        f"this run  {fit.total_tokens:,} tokens of about {facts.tokens_per_row:.4g} to a row, "
        f"{run.model.hidden_size} x {run.model.num_layers}: {facts.shape.width:g} times the width, "
        f"{facts.shape.depth:g} times the depth",
    ]
    if fit.scaling.rule == "none":
        return "\n".join([*lines, "rule      none: values stay as stated, whatever the batch"])
    if fit.scaling.base_tokens is None:
        lines.append(f"logical   {values.logical_batch:,.0f} rows: the base's, since the horizon is its own")
    else:
        ratio = fit.total_tokens / fit.scaling.base_tokens
        lines.append(
            f"logical   {values.logical_batch:,.0f} rows = {fit.logical_batch:,} x "
            f"{ratio:.4g}^{fit.scaling.gamma:g}, where kappa is 1"
        )
    return "\n".join(lines)


def _base_shape(run: TrimodalRun) -> str:
    base = run.model.base
    return "" if base is None else f", {base.hidden_size} x {base.num_layers}"


def _batch_line(run: TrimodalRun, plan: Plan, values: HyperParameters, tokens: int) -> str:
    """The plan's batch, from `tokens` on."""
    batch, parts = plan.batch, plan.micro_batches
    micro = min(plan.micro_batch, plan.rows_per_rank)
    line = f"physical  {batch:,} rows = {plan.data_ranks} data-parallel x {parts} micro-batches of {micro}"
    if batch != plan.data_ranks * parts * micro:
        line += " or fewer"
    if run.facts.tokens_per_row:
        line += f", {run.fit.total_tokens / run.facts.tokens_per_row / batch:,.0f} steps for the whole run"
    clipping = values.clipping(run.fit.engine.gradient_clipping, batch)
    line += (
        f"; kappa {values.kappa(batch):.4g}, gradients {f'clipped at {clipping:.4g}' if clipping else 'not clipped'}"
    )
    return f"{line}; from {tokens:,} tokens on" if tokens else line


def _values_table(run: TrimodalRun, values: HyperParameters, batches: list[int]) -> str:
    names = ("learning rate", "beta1", "beta2", "epsilon", "weight decay")
    lines = [f"\n{'parameters':<16}{'number':>15}  {'at':<18}" + "".join(f"{name:>14}" for name in names)]
    for kind, number in _numbers(run).items():
        for i, (place, given) in enumerate(_rows(run.fit.optimizer, values, kind, batches)):
            first = f"{kind.replace('_', ' '):<16}{number:>15,}" if i == 0 else " " * 31
            lines.append(f"{first}  {place:<18}" + "".join(f"{cell:>14}" for cell in _cells(kind, given)))
    return "\n".join(lines) + "\n"


def _rows(
    optimizer: AdamWConfig, values: HyperParameters, kind: ParameterKind, batches: list[int]
) -> Iterator[tuple[str, AdamWValues]]:
    yield "base", optimizer.values
    yield f"logical {values.logical_batch:,.0f}", values.at_logical_batch(kind)
    for batch in batches:
        yield f"physical {batch:,}", values.at_batch(kind, batch)


def _cells(kind: ParameterKind, values: AdamWValues) -> list[str]:
    decay = f"{values.weight_decay:.4g}" if decays(kind) else "-"
    return [f"{number:.4g}" for number in (values.learning_rate, *values.betas, values.epsilon)] + [decay]


def _averages(run: TrimodalRun, values: HyperParameters, batches: list[int]) -> Iterator[str]:
    """One line per average of the weights: its decay per step, at the logical batch and at each physical one."""
    length = run.facts.tokens_per_row or math.nan
    for average in run.fit.averages:
        decay = average.logical_decay(values.logical_batch * length)
        if decay is None:
            yield f"average {average.name}: uniform from {average.start_tokens:,} tokens on"
            continue
        in_tokens = average.half_life_tokens is not None  # else in logical updates, which without a rule are steps
        at_batch = {
            batch: average.logical_decay(batch * length) if in_tokens else scale_ema_decay(decay, values.kappa(batch))
            for batch in batches
        }
        steps = ", ".join(f"{of_step:.6g} at {batch:,}" for batch, of_step in at_batch.items())
        yield f"average {average.name}: decay per step {decay:.6g} at the logical batch, {steps}"


def _numbers(run: TrimodalRun) -> dict[ParameterKind, int]:
    """Parameters of each kind. The model is built without memory for its weights."""
    with process_groups(Placement()) as groups, torch.device("meta"):
        model = run.build_model(groups)
    return rank_counts(model, run.model.num_layers, range(run.model.num_layers), num_tensor_ranks=1)
