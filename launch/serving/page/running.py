"""A request from the page: it goes the way of all others, and its steps are shown while it runs."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

import gradio as gr
from pydantic import ValidationError

from triptych.data_pipelines.vocabulary import Task
from triptych.launch.serving.jobs import target_of
from triptych.launch.serving.media import Sample
from triptych.launch.serving.page.controls import NAMES, request_of
from triptych.launch.serving.page.frames import Frames
from triptych.launch.serving.page.results import shown
from triptych.launch.serving.refusals import Refused
from triptych.launch.serving.requests import GenerateRequest
from triptych.launch.serving.service import Service, Watch
from triptych.launch.serving.worker import Stopped, Ticket

Asked = Callable[..., dict[str, Any]]
"""From the values of a tab's own inputs, what they add to a request. Raises Refused."""

_SAMPLING = "<small>sampling</small>"
_LOOKING_SECONDS = 0.1
_PLAYING_SECONDS, _FRAME_SECONDS = 4.0, 0.3  # all frames in so long, none longer than that


def handler(service: Service, task: Task, asked: Asked) -> Callable[..., Iterator[tuple[Any, ...]]]:
    """For a button: takes the tab's inputs, then the controls; yields result, frame, slider, play, frames, status."""

    def run(*values: Any) -> Iterator[tuple[Any, ...]]:
        begun = time.monotonic()
        request, every_step = request_of(task, values[-len(NAMES) :])
        frames: SimpleQueue[str] = SimpleQueue()
        drawing = Frames(service.trained, target_of(task))
        watch: Watch | None = (lambda progress: frames.put(drawing.frame(progress))) if every_step else None
        ticket = _told(lambda: _submitted(service, {**request, **asked(*values[: -len(NAMES)])}, watch))
        made: list[str] = []
        try:
            yield "", "", gr.update(visible=False), gr.update(visible=False), [], "<small>waiting</small>"
            said_so = False
            while not (ticket.future.done() and frames.empty()):
                frame = made[-1] if _take(frames, made) else gr.skip()
                # Said once: what is on its way when Stop is pressed would stand where "stopped" does.
                begins = ticket.future.running() and not said_so
                said_so = said_so or begins
                # Yielded though nothing may be new: gradio ends a request where it yields, and nowhere else.
                yield gr.skip(), frame, gr.skip(), gr.skip(), gr.skip(), _SAMPLING if begins else gr.skip()
            samples = _told(lambda: _samples(ticket))
        finally:
            ticket.give_up()
        slider = gr.update(visible=bool(made), maximum=max(2, len(made)), value=len(made))
        result = shown(samples, service.reader.sample_rate_hertz, task)
        said = f"<small>{len(samples)} in {time.monotonic() - begun:.2f} s</small>"
        yield result, made[-1] if made else "", slider, gr.update(visible=bool(made)), made, said

    return run


def sample_now(service: Service, request: dict[str, Any]) -> list[Sample]:
    """Samples of a request, without steps."""
    ticket = _told(lambda: _submitted(service, request, None))
    try:
        return _told(lambda: _samples(ticket))
    finally:
        ticket.give_up()


def frame_at(step: float, frames: list[str]) -> str:
    """The frame that the slider points at, from 1."""
    return frames[min(max(int(step), 1), len(frames)) - 1] if frames else ""


def play(frames: list[str]) -> Iterator[tuple[str, int]]:
    """All frames in turn, and where the slider is."""
    for index, frame in enumerate(frames):
        yield frame, index + 1
        time.sleep(min(_FRAME_SECONDS, _PLAYING_SECONDS / len(frames)))


def _take(frames: "SimpleQueue[str]", made: list[str]) -> bool:
    """Move all frames that there are, after waiting a moment for the first; whether there was any."""
    before = len(made)
    with suppress(Empty):
        made.append(frames.get(timeout=_LOOKING_SECONDS))
        while True:
            made.append(frames.get_nowait())
    return len(made) > before


def _submitted(service: Service, request: dict[str, Any], watch: Watch | None) -> Ticket:
    try:
        job = service.reader.read(GenerateRequest.model_validate(request))
    except ValidationError as error:
        first = error.errors()[0]
        raise Refused(422, f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}; change it") from None
    return service.submit(job, service.limits.request_seconds, watch)


def _samples(ticket: Ticket) -> list[Sample]:
    try:
        return ticket.future.result()
    except (Stopped, CancelledError):
        raise Refused(504, "it took too long and was given up; ask for fewer steps or samples") from None


def _told(do: Callable[[], Any]) -> Any:
    """What `do` returns; a refusal becomes a note on the page."""
    try:
        return do()
    except Refused as refused:
        raise gr.Error(refused.sentence, title=_TITLES.get(refused.status, "Not done"), print_exception=False) from None


_TITLES = {413: "Too large", 503: "Busy", 504: "Out of time"}
