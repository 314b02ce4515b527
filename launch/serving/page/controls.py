"""How to sample, as controls that begin where the run's own settings are."""

from typing import Any

import gradio as gr

from triptych.data_pipelines.vocabulary import Task
from triptych.launch.serving.jobs import RULES, target_of
from triptych.launch.serving.service import Service

NAMES = ("num", "seed", "num_steps", "temperature", "top_p", "guidance", "rule", "choice_temperature", "every_step")
_SAMPLING = ("num_steps", "temperature", "top_p", "guidance", "rule", "choice_temperature")


def controls(service: Service, task: Task, num: int) -> list[Any]:
    """Components in the order of NAMES, in a fold."""
    config, limits = service.trained.run.sampling.of(target_of(task)), service.limits
    most_steps = max(limits.steps, config.num_steps)
    with gr.Row():
        number = gr.Slider(1, limits.samples, value=min(num, limits.samples), step=1, label="How many")
        seed = gr.Number(value=service.reader.seed, precision=0, minimum=0, label="Seed")
    with gr.Accordion("Sampler", open=False):
        with gr.Row():
            steps = gr.Slider(1, most_steps, value=config.num_steps, step=1, label="Steps")
            temperature = gr.Slider(0, 2, value=config.temperature, step=0.05, label="Temperature")
        with gr.Row():
            top_p = gr.Slider(0.05, 1, value=config.top_p, step=0.05, label="Nucleus (top p)")
            guidance = gr.Slider(-1, 5, value=config.guidance, step=0.1, label="Guidance")
        with gr.Row():
            rule = gr.Dropdown(list(RULES), value=config.rule.kind, label="Rule")
            own = getattr(config.rule, "choice_temperature", 4.5)
            choice = gr.Slider(0, 20, value=own, step=0.1, label="Choice temperature", interactive=True)
        every_step = gr.Checkbox(True, label="Show every step")
    rule.change(
        lambda kind: gr.update(interactive=kind == "maskgit"), rule, choice, queue=False, api_visibility="private"
    )
    return [number, seed, steps, temperature, top_p, guidance, rule, choice, every_step]


def request_of(task: Task, values: tuple[Any, ...]) -> tuple[dict[str, Any], bool]:
    """The part of a request that the controls decide, and whether every step is to be shown."""
    given = dict(zip(NAMES, values, strict=True))
    sampling = {name: given[name] for name in _SAMPLING}
    if given["rule"] != "maskgit":
        del sampling["choice_temperature"]
    request: dict[str, Any] = {"task": task, "num": given["num"], "sampling": sampling}
    if given["seed"] is not None:
        request["seed"] = given["seed"]
    return request, given["every_step"]
