"""`triptych attention`: which backend computes a run's attention on this machine, and why not another."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from triptych.configs.registry import named_run
from triptych.configs.tree import with_settings
from triptych.configs.trimodal import TrimodalRun
from triptych.models.attention.registry.backends import REGISTRY
from triptych.models.attention.registry.request import AttentionRequest, Function
from triptych.models.attention.transformer_engine.environment import VARIABLES, variables_that_are_set

_FUNCTIONS: tuple[Function, ...] = ("softmax", "sigmoid")


def attention(name: str, settings: Sequence[str], *, explain: bool, console: Console | None = None) -> None:
    """Print every backend of the run's attention, whether it can run here, the reason, and which is taken. explain:
    what is asked of them too, the backends of the other function, and the variables that modules in Transformer
    Engine's place follow; these also where one is set.

    ValueError, after the table, where none can, or the one that the run names.
    """
    run = with_settings(named_run(name), settings)
    console = console or Console(highlight=False)
    request = request_of(run)
    wanted = _wanted(run)
    console.print(f"{name}: {request.function} attention on {_device(request)}", soft_wrap=True)
    if explain:
        console.print(_facts(request))
    console.print(_backends(request, wanted))
    if explain:
        for function in _FUNCTIONS:
            if function != request.function:
                console.print(f"with attention.function={function}:", soft_wrap=True)
                console.print(_backends(replace(request, function=function), "auto"))
    if explain or variables_that_are_set():
        console.print(_variables())
    REGISTRY.choose(request, wanted)


def request_of(run: TrimodalRun) -> AttentionRequest:
    """What the run's layers ask for, in training on this machine's accelerator, or its CPU if it has none."""
    cuda = torch.cuda.is_available()
    model = run.model
    return AttentionRequest(
        function=model.attention.function,
        device="cuda" if cuda else "cpu",
        capability=torch.cuda.get_device_capability() if cuda else None,
        dtype=run.fit.engine.dtype,
        head_dims=(model.head_dim, model.head_dim),
        num_heads=model.num_attention_heads,
        num_groups=model.num_query_groups,
        padding=True,  # rows are filled up to their length
        packed=run.data.packing.rows != "none",
        sigmoid=model.attention.sigmoid,
    )


def _wanted(run: TrimodalRun) -> str:
    return run.model.attention.kernel if run.model.attention.function == "sigmoid" else "auto"


def _backends(request: AttentionRequest, wanted: str) -> Table:
    table = Table("backend", "runs here", "taken", "reason")
    reasons = REGISTRY.reasons(request)
    can = [name for name, reason in reasons.items() if reason is None]
    taken, why_not = None, {}
    if can and wanted in ("auto", *can):
        choice = REGISTRY.choose(request, wanted)
        taken, why_not = choice.backend.name, choice.reasons
    for name, reason in reasons.items():
        told = "the run asks for it" if name == taken == wanted else why_not.get(name, reason or "")
        table.add_row(name, "yes" if reason is None else "no", "yes" if name == taken else "", told)
    return table


def _facts(request: AttentionRequest) -> Table:
    table = Table("asked for", "value")
    for field in fields(request):
        table.add_row(field.name, _words(getattr(request, field.name)))
    return table


def _variables() -> Table:
    """Of modules in Transformer Engine's place; a run of ours does not look at them."""
    given = variables_that_are_set()
    table = Table("variable", "set to", "in place of Transformer Engine's attention")
    for name, meaning in VARIABLES.items():
        table.add_row(name, given.get(name, ""), meaning)
    return table


def _device(request: AttentionRequest) -> str:
    if request.capability is None:
        return request.device
    major, minor = request.capability
    return f"{torch.cuda.get_device_name()}, compute capability {major}.{minor}"


def _words(value: Any) -> str:
    return str(value).removeprefix("torch.")
