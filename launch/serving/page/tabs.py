"""One tab for each thing that a run can do."""

import base64
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from triptych.data_pipelines.vocabulary import Task
from triptych.launch.serving.jobs import tasks_of
from triptych.launch.serving.page.controls import controls
from triptych.launch.serving.page.drawing import ACCENT, enlarged
from triptych.launch.serving.page.running import Asked, frame_at, handler, play, sample_now
from triptych.launch.serving.refusals import Refused
from triptych.launch.serving.service import Service

_NOTHING = "<span style='opacity:.6'>nothing yet</span>"
_EDITED_SIDE = 320  # pixels that a small picture is enlarged to, to be painted on
_PRIVATE: dict[str, Any] = {"api_visibility": "private"}  # the endpoint is the interface for programs


def build_tabs(service: Service) -> None:
    """Within a gr.Blocks that is open."""
    makers: list[tuple[Task, Callable[[Service], None]]] = [
        ("t2i", _image),
        ("t2s", _speech),
        ("text", _text),
        ("i2t", _caption),
        ("s2t", _transcript),
        ("t2i", _repaint),
        ("text", _fill_in),
        ("t2s", _patch),
    ]
    trained = tasks_of(service.trained.run)
    with gr.Tabs():
        for task, make in makers:
            if task in trained:
                make(service)


def _image(service: Service) -> None:
    _prompt_tab(service, "t2i", "Image", "What it shows", _example(service, "t2i"), num=4)


def _speech(service: Service) -> None:
    _prompt_tab(service, "t2s", "Speech", "What is said", _example(service, "t2s"), num=2)


def _text(service: Service) -> None:
    _prompt_tab(service, "text", "Text", "How it begins", "", num=2)


def _example(service: Service, task: Task) -> str:
    """A prompt to start from: the run that trains in minutes knows ten words."""
    return "five" if service.trained.run.name == "trimodal_demo" else ""


def _prompt_tab(service: Service, task: Task, name: str, label: str, prompt: str, num: int) -> None:
    with gr.Tab(name), gr.Row():
        with gr.Column(scale=2, min_width=300):
            text = gr.Textbox(label=label, value=prompt, lines=2, max_length=service.limits.prompt_characters)
            settings = controls(service, task, num)
            buttons = _buttons("Make")
        _outcome(service, task, [text], settings, buttons, lambda written: {"prompt": written}, [text])


def _caption(service: Service) -> None:
    with gr.Tab("Caption"), gr.Row():
        with gr.Column(scale=2, min_width=300):
            picture = gr.Image(label="Picture", type="filepath", image_mode=None, sources=["upload", "clipboard"])
            settings = controls(service, "i2t", 1)
            buttons = _buttons("Describe")
        _outcome(service, "i2t", [picture], settings, buttons, lambda path: {"file": _file(path), "resize": True})


def _transcript(service: Service) -> None:
    with gr.Tab("Transcript"), gr.Row():
        with gr.Column(scale=2, min_width=300):
            recording = gr.Audio(label="Recording", type="filepath", sources=["upload", "microphone"])
            settings = controls(service, "s2t", 1)
            buttons = _buttons("Write down")
        _outcome(service, "s2t", [recording], settings, buttons, lambda path: {"file": _file(path)})


def _repaint(service: Service) -> None:
    shape = service.reader.picture
    times = max(1, _EDITED_SIDE // max(shape[:2]))
    size = (shape[1] * times, shape[0] * times)

    def asked(written: str, edited: dict[str, Any] | None) -> dict[str, Any]:
        if not edited or edited.get("background") is None:
            raise Refused(422, "there is no picture yet; draw one, or bring one along")
        background = np.asarray(edited["background"])[..., :3]
        painted = np.zeros(background.shape[:2], np.uint8)
        for layer in edited["layers"]:
            painted[np.asarray(layer)[..., 3] > 127] = 255
        exact = background[times // 2 :: times, times // 2 :: times]  # one that the page enlarged is that one again
        picture = exact if background.shape[:2] == size[::-1] else background
        mask = painted if picture is background else painted[: size[1], : size[0]]
        infill = {"file": _png(picture), "mask": _png(mask)}
        return {"prompt": written, "infill": infill}

    def drawn(written: str, seed: float | None) -> dict[str, Any]:
        (sample,) = sample_now(service, {"task": "t2i", "prompt": written, "seed": int(seed or 0)})
        return _canvas(sample.raw, times)

    with gr.Tab("Repaint"), gr.Row():
        with gr.Column(scale=2, min_width=300):
            text = gr.Textbox(
                label="What it shows", value=_example(service, "t2i"), max_length=service.limits.prompt_characters
            )
            start = gr.Button("Draw a picture to start from", size="sm")
            gr.HTML("<small>Or bring one along. Then paint over what is to be made anew.</small>")
            editor = gr.ImageEditor(
                show_label=False,
                label="Paint what is to be made anew",
                type="numpy",
                image_mode="RGBA",
                format="png",
                sources=["upload", "clipboard"],
                transforms=(),
                layers=False,
                brush=gr.Brush(colors=[ACCENT], color_mode="fixed", default_size=max(12, size[0] // 8)),
                canvas_size=size,
                height=min(size[1], 400) + 110,
            )
            settings = controls(service, "t2i", 4)
            buttons = _buttons("Repaint")
        start.click(drawn, [text, settings[1]], editor, **_PRIVATE)
        _outcome(service, "t2i", [text, editor], settings, buttons, asked)


def _fill_in(service: Service) -> None:
    with gr.Tab("Fill in text"), gr.Row():
        with gr.Column(scale=2, min_width=300):
            text = gr.Textbox(
                label="Text with holes: [[3]] is a hole of three tokens",
                value="The [[2]] of the [[3]] and",
                lines=3,
                max_length=service.limits.prompt_characters,
            )
            settings = controls(service, "text", 2)
            buttons = _buttons("Fill in")
        _outcome(service, "text", [text], settings, buttons, lambda written: {"infill": {"text": written}})


def _patch(service: Service) -> None:
    def asked(written: str, path: str | None, start: float, end: float) -> dict[str, Any]:
        return {"prompt": written, "infill": {"file": _file(path), "seconds": [[start, end]]}}

    with gr.Tab("Patch speech"), gr.Row():
        with gr.Column(scale=2, min_width=300):
            recording = gr.Audio(label="Recording", type="filepath", sources=["upload", "microphone"])
            with gr.Row():
                start = gr.Number(value=0.1, minimum=0, step=0.05, label="Made anew from second")
                end = gr.Number(value=0.3, minimum=0, step=0.05, label="to second")
            text = gr.Textbox(
                label="What is said", value=_example(service, "t2s"), max_length=service.limits.prompt_characters
            )
            settings = controls(service, "t2s", 1)
            buttons = _buttons("Patch")
        _outcome(service, "t2s", [text, recording, start, end], settings, buttons, asked)


def _buttons(name: str) -> tuple[gr.Button, gr.Button]:
    with gr.Row():
        return gr.Button(name, variant="primary"), gr.Button("Stop")


def _outcome(
    service: Service,
    task: Task,
    inputs: Sequence[Any],
    settings: Sequence[Any],
    buttons: tuple[gr.Button, gr.Button],
    asked: Asked,
    entered: Sequence[gr.Textbox] = (),
) -> None:
    """The right half of a tab, and what its buttons do. entered: boxes whose Enter key does the same."""
    with gr.Column(scale=3, min_width=300):
        with gr.Column(elem_classes="outcome"):
            gr.HTML("<div class=heading>Made</div>")
            result = gr.HTML(_NOTHING)
            status = gr.HTML("", elem_classes="status")
        with gr.Column(elem_classes="outcome"):
            gr.HTML("<div class=heading>Step by step</div>")
            frame = gr.HTML(_NOTHING)
            slider = gr.Slider(1, 2, value=1, step=1, label="Step", visible=False, interactive=True)
            again = gr.Button("Play the steps", size="sm", visible=False)
        frames = gr.State([])
    go, stop = buttons
    triggers = [go.click, *(box.submit for box in entered)]
    outputs = [result, frame, slider, again, frames, status]
    running = gr.on(
        triggers, handler(service, task, asked), [*inputs, *settings], outputs, show_progress="minimal", **_PRIVATE
    )
    stop.click(lambda: "<small>stopped</small>", None, status, cancels=[running], queue=False, **_PRIVATE)
    slider.input(frame_at, [slider, frames], frame, queue=False, show_progress="hidden", **_PRIVATE)
    again.click(play, frames, [frame, slider], show_progress="hidden", **_PRIVATE)


def _canvas(image: Any, times: int) -> dict[str, Any]:
    """A picture as the editor takes it, enlarged."""
    return {"background": enlarged(image, times), "layers": [], "composite": None}


def _file(path: str | None) -> str:
    if path is None:
        raise Refused(422, "there is no file yet; bring one along")
    return base64.b64encode(Path(path).read_bytes()).decode("ascii")


def _png(image: Any) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
