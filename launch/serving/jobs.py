"""A request that has been read and found sound."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.configs.trimodal import TrimodalRun
from triptych.data_pipelines.stream.sequences import SIDES
from triptych.data_pipelines.vocabulary import TASKS, Modality, Task
from triptych.launch.serving.limits import ServingLimitsConfig
from triptych.launch.serving.media import fitted, from_base64, read_audio, read_image
from triptych.launch.serving.refusals import Refused
from triptych.launch.serving.requests import GenerateRequest, InfillRequest, SamplingRequest
from triptych.models.diffusion.sampling import Ancestral, Confidence, MaskGit, SamplerConfig

RULES = {"ancestral": Ancestral, "confidence": Confidence, "maskgit": MaskGit}
_MAX_STRENGTH = 1000.0  # of guidance and choice_temperature: far above, logits and noise overflow


@dataclass(kw_only=True, slots=True, frozen=True)
class Refill:
    """What is there already. raw: a picture, a recording, or a text with holes. Its holes are what is painted (bool
    [Y, X]), or stretches in seconds, or spans of codes.
    """

    raw: Any
    painted: NDArray[np.bool_] | None = None
    seconds: Sequence[Sequence[float]] = ()
    spans: Sequence[Sequence[float]] = ()


@dataclass(kw_only=True, slots=True, frozen=True)
class Job:
    """condition: text, picture or recording. sampling: of the modality that is made."""

    task: Task
    condition: Any
    num: int
    seed: int
    sampling: SamplerConfig
    refill: Refill | None = None


def target_of(task: Task) -> Modality:
    """What a task makes."""
    return "text" if task == "text" else SIDES[task][1]


def tasks_of(run: TrimodalRun) -> list[Task]:
    """The tasks that a run was trained on."""
    trained = {source.task for source in run.data.sources.values()}
    return [task for task in TASKS if task in trained]


@dataclass(kw_only=True, slots=True, frozen=True)
class JobReader:
    """Requests to jobs. picture: shape of the pictures that the run makes. Everything raises Refused: 413 for what is
    larger than a limit, 422 for what makes no sense.
    """

    run: TrimodalRun
    limits: ServingLimitsConfig
    picture: tuple[int, ...]
    sample_rate_hertz: int
    seed: int

    def read(self, request: GenerateRequest) -> Job:
        """Decodes the files, so it takes a moment."""
        task = request.task
        if task not in tasks_of(self.run):
            known = ", ".join(tasks_of(self.run))
            raise Refused(422, f"this run was not trained on {task}; it does {known}")
        if not 1 <= request.num <= self.limits.samples:
            raise Refused(422, f"num {request.num} is outside 1..{self.limits.samples}; ask for fewer at a time")
        seed = self.seed if request.seed is None else request.seed
        if not 0 <= seed < 2**64:
            raise Refused(422, f"seed {seed} is outside 0..2**64-1; give another")
        sampling = self.sampling(task, request.sampling)
        refill = None
        if request.infill is not None:
            refill = self._refill(task, request.infill)
            sampling = replace(sampling, may_end=False)  # an END would cut off what is given behind it
        condition = self._condition(request, refill)
        return Job(task=task, condition=condition, num=request.num, seed=seed, sampling=sampling, refill=refill)

    def sampling(self, task: Task, request: SamplingRequest) -> SamplerConfig:
        """The run's own, changed."""
        config = self.run.sampling.of(target_of(task))
        if request.num_steps is not None and request.num_steps > max(self.limits.steps, config.num_steps):
            raise Refused(422, f"num_steps {request.num_steps} is more than {self.limits.steps}; ask for fewer")
        for name in ("guidance", "choice_temperature"):
            if (getattr(request, name) or 0) > _MAX_STRENGTH:
                raise Refused(422, f"{name} {getattr(request, name):g} is more than {_MAX_STRENGTH:g}; lower it")
        kind = request.rule or config.rule.kind
        rule = config.rule if kind == config.rule.kind else RULES[kind]()
        if request.choice_temperature is not None and not isinstance(rule, MaskGit):
            raise Refused(422, f"choice_temperature is not of the rule {kind}; leave it out, or set rule to maskgit")
        try:
            if request.choice_temperature is not None and isinstance(rule, MaskGit):
                rule = replace(rule, choice_temperature=request.choice_temperature)
            names = {field.name for field in fields(SamplerConfig)} - {"rule", "may_end"}
            changes = {name: getattr(request, name) for name in names if getattr(request, name) is not None}
            return replace(config, rule=rule, **changes)
        except ValueError as error:
            raise Refused(422, str(error)) from None

    def _condition(self, request: GenerateRequest, refill: Refill | None) -> Any:
        task, prompt, file = request.task, request.prompt, request.file
        if task in ("text", "t2i", "t2s"):
            if file is not None:
                raise Refused(422, f"{task} takes a prompt, not a file; leave the file out")
            if task == "text" and refill is not None and prompt is not None:
                raise Refused(422, "a text with holes is its own beginning; leave the prompt out")
            return self.text(prompt or "", "prompt", may_be_empty=task == "text" or refill is not None)
        if prompt is not None or file is None:
            raise Refused(422, f"{task} takes a file, not a prompt; send it as base64")
        data = from_base64(file, "file")
        if task == "s2t":
            return self.recording(data, "file")
        image = self.image(data, "file")
        return fitted(image, self.picture) if request.resize else image

    def _refill(self, task: Task, infill: InfillRequest) -> Refill:
        ways = {"text": ("text",), "t2i": ("mask", "spans"), "t2s": ("seconds", "spans")}.get(task)
        if ways is None:
            raise Refused(422, f"nothing of {task} can be filled in; that is done with text, t2i and t2s")
        given = [way for way in ("text", "mask", "seconds", "spans") if getattr(infill, way)]
        if len(given) != 1 or given[0] not in ways or (infill.file is None) != (task == "text"):
            file = "" if task == "text" else "a file and "
            raise Refused(422, f"infill of {task} takes {file}one of {', '.join(ways)}; give just that")
        if task == "text":
            return Refill(raw=self.text(infill.text or "", "infill.text", may_be_empty=False))
        data = from_base64(infill.file or "", "infill.file")
        if task == "t2s":
            recording = self.recording(data, "infill.file")
            return Refill(raw=recording, seconds=infill.seconds or (), spans=infill.spans or ())
        image, painted = self.image(data, "infill.file"), None
        if infill.mask is not None:
            mask = self.image(from_base64(infill.mask, "infill.mask"), "infill.mask")
            if mask.shape[0] * image.shape[1] != mask.shape[1] * image.shape[0]:
                sizes = f"{mask.shape[1]} x {mask.shape[0]} pixels, the file {image.shape[1]} x {image.shape[0]}"
                raise Refused(422, f"infill.mask has {sizes}; send one of the file's shape")
            height, width = self.picture[:2]
            times = max(1, mask.shape[0] // height)
            painted = fitted(mask, (height * times, width * times)) > 127
        return Refill(raw=fitted(image, self.picture), painted=painted, spans=infill.spans or ())

    def text(self, text: str, name: str, *, may_be_empty: bool) -> str:
        """A text that a tokenizer takes."""
        if len(text) > self.limits.prompt_characters:
            most = self.limits.prompt_characters
            raise Refused(413, f"{name} has {len(text)} characters, more than {most}; shorten it")
        if not text.strip() and not may_be_empty:
            raise Refused(422, f"{name} is empty; say what to make")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise Refused(422, f"{name} holds half of a character (a lone surrogate); send it anew")
        return text

    def image(self, data: bytes, name: str) -> NDArray[np.uint8]:
        """A picture from the bytes of its file."""
        return read_image(data, name, self.limits.pixels)

    def recording(self, data: bytes, name: str) -> NDArray[np.float32]:
        """A recording from the bytes of its file."""
        return read_audio(data, name, self.limits.audio_seconds, self.sample_rate_hertz)
