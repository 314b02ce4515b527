"""What the demo's report shows, taken from a trained run and its evaluation."""

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version

import numpy as np
import torch

from triptych.configs.digits_evaluation import Evaluation, Generated
from triptych.configs.tree import to_yaml
from triptych.data_pipelines.vocabulary import Task
from triptych.kernels.provenance import processor
from triptych.launch.report.data import (
    Clip,
    DigitRow,
    ImageInfilling,
    ImageReading,
    JudgedImage,
    Mark,
    ReportData,
    RunFacts,
    SpokenCaption,
    TextSample,
    Transcript,
    Unmasking,
    UnmaskingStep,
)
from triptych.launch.report.history import training_history
from triptych.launch.trained import Trained
from triptych.models.trimodal.counts import parameter_counts
from triptych.trainer.metrics import StepRecord

AIMS: Mapping[Task, float] = {"t2i": 0.85, "i2t": 0.85, "t2s": 0.8, "s2t": 0.8}
PACKAGES = ("torch", "deepspeed", "megatron-core", "numpy")
IMAGES_PER_CAPTION = 8
NUM_READ = 12
NUM_FRAMES = 6
FIRST_KEY = 1_000_000  # of samples drawn for the page alone, away from the evaluation's


def report_data(
    trained: Trained,
    evaluation: Evaluation,
    records: Sequence[StepRecord],
    *,
    command: str,
    stages: Mapping[str, float],
) -> ReportData:
    """Everything on the page. `stages`: name to seconds of the demo's parts."""
    generated = evaluation.generated
    return ReportData(
        title=trained.run.name,
        summary="One small masked diffusion transformer over text, image and audio tokens, trained on this machine.",
        scores=evaluation.scores,
        marks={f"{task}_accuracy": Mark(target=aim, chance=0.1) for task, aim in AIMS.items()},
        training=training_history(records),
        digits=tuple(_digit_rows(trained, evaluation)),
        speech=tuple(_spoken(generated["t2s"])),
        readings=tuple(_readings(generated["i2t"])),
        transcripts=tuple(_transcripts(generated["s2t"])),
        unmaskings=(_image_unmasking(trained, generated["t2i"]), _text_unmasking(trained, generated["i2t"])),
        texts=tuple(_texts(trained)),
        image_infillings=tuple(_infillings(trained, evaluation)),
        run=_facts(trained, command, stages),
        notes=(
            f"Accuracies are over {len(generated['t2i'].outputs)} held-out pairs per task, one sample each.",
            "The judges were trained on real images and recordings alone; their own accuracy is among the numbers.",
            "The speech is synthetic to begin with: espeak-ng reads the captions, and whole voices are held out.",
        ),
    )


def _first_of_each_digit(generated: Generated) -> list[int]:
    """Index of the first held-out pair of every digit that occurs, by digit."""
    digits = generated.held_out.digits
    return [digits.index(digit) for digit in range(10) if digit in digits]


def _digit_rows(trained: Trained, evaluation: Evaluation) -> list[DigitRow]:
    held_out = evaluation.generated["t2i"].held_out
    rows = []
    for index in _first_of_each_digit(evaluation.generated["t2i"]):
        digit, caption = held_out.digits[index], held_out.captions[index]
        codes = trained.tokenizers["text"].encode([caption] * IMAGES_PER_CAPTION)
        made = trained.generator.targets("t2i", codes, FIRST_KEY + digit * IMAGES_PER_CAPTION)
        images = trained.tokenizers["image"].decode(made)
        verdicts = evaluation.judges.image.verdicts(images)
        real = [image for image, other in zip(held_out.items, held_out.digits, strict=True) if other == digit]
        judged = tuple(JudgedImage(image=i, verdict=int(v)) for i, v in zip(images, verdicts, strict=True))
        rows.append(DigitRow(caption=caption, digit=digit, generated=judged, real=tuple(real[:IMAGES_PER_CAPTION])))
    return rows


def _spoken(generated: Generated) -> list[SpokenCaption]:
    held_out = generated.held_out
    return [
        SpokenCaption(
            caption=held_out.captions[i],
            digit=held_out.digits[i],
            generated=Clip(samples=generated.outputs[i]),
            verdict=generated.named[i],
            real=Clip(samples=held_out.items[i]),
        )
        for i in _first_of_each_digit(generated)
    ]


def _readings(generated: Generated) -> list[ImageReading]:
    held_out = generated.held_out
    return [
        ImageReading(
            image=held_out.items[i],
            reference=held_out.captions[i],
            text=generated.outputs[i],
            digit=held_out.digits[i],
            named=generated.named[i],
        )
        for i in range(min(NUM_READ, len(generated.outputs)))
    ]


def _transcripts(generated: Generated) -> list[Transcript]:
    held_out = generated.held_out
    return [
        Transcript(
            clip=Clip(samples=held_out.items[i]),
            reference=held_out.captions[i],
            text=generated.outputs[i],
            digit=held_out.digits[i],
            named=generated.named[i],
        )
        for i in range(min(NUM_READ, len(generated.outputs)))
    ]


def _some(number: int) -> list[int]:
    """A few of `number` steps in order, evenly spaced, the last among them."""
    return np.linspace(0, number - 1, min(NUM_FRAMES, number)).round().astype(int).tolist()


def _image_unmasking(trained: Trained, generated: Generated) -> Unmasking:
    caption = generated.held_out.captions[0]
    states = list(trained.generator.states("t2i", trained.tokenizers["text"].encode([caption])))
    side = round(trained.run.data.regions.image**0.5)
    steps = []
    for step in _some(len(states)):
        masked, codes = states[step]
        image = trained.tokenizers["image"].decode([codes[0]])[0]
        steps.append(UnmaskingStep(step=step + 1, masked=masked[0].cpu().numpy().reshape(side, side), image=image))
    return Unmasking(modality="image", caption=caption, steps=tuple(steps))


def _text_unmasking(trained: Trained, generated: Generated) -> Unmasking:
    codes = trained.tokenizers["image"].encode([generated.held_out.items[0]])
    states = list(trained.generator.states("i2t", codes))
    steps = []
    for step in _some(len(states)):
        masked, ids = states[step]
        words = trained.tokenizers["text"].decode([ids[0][i : i + 1] for i in range(len(ids[0]))])
        pieces = tuple(None if hidden else word for hidden, word in zip(masked[0].tolist(), words, strict=True))
        steps.append(UnmaskingStep(step=step + 1, pieces=pieces))
    return Unmasking(modality="text", caption="caption of the first held-out image", steps=tuple(steps))


def _texts(trained: Trained) -> list[TextSample]:
    tokenizer = trained.tokenizers["text"]
    samples = []
    for number, prompt in enumerate(("Return the", "If the file", "")):
        codes = trained.generator.texts(1, tokenizer.encode([prompt])[0], FIRST_KEY + number)
        samples.append(TextSample(text=tokenizer.decode(codes)[0].removeprefix(prompt), prompt=prompt))
    return samples


def _infillings(trained: Trained, evaluation: Evaluation) -> list[ImageInfilling]:
    """The lower half of a few held-out images, filled in anew thrice each, given caption and upper half."""
    held_out, tokenizers = evaluation.generated["t2i"].held_out, trained.tokenizers
    size = trained.run.data.regions.image
    side = round(size**0.5)
    holes = np.arange(size) >= size // 2
    shown = []
    for index in _first_of_each_digit(evaluation.generated["t2i"])[2:8:2]:
        pair = (
            tokenizers["text"].encode([held_out.captions[index]])[0],
            tokenizers["image"].encode([held_out.items[index]])[0],
        )
        images = tokenizers["image"].decode(trained.generator.infill("t2i", [pair] * 3, holes, FIRST_KEY + 3 * index))
        verdicts = evaluation.judges.image.verdicts(images)
        shown.append(
            ImageInfilling(
                caption=held_out.captions[index],
                digit=held_out.digits[index],
                original=held_out.items[index],
                masked=holes.reshape(side, side),
                filled=tuple(JudgedImage(image=i, verdict=int(v)) for i, v in zip(images, verdicts, strict=True)),
            )
        )
    return shown


def _facts(trained: Trained, command: str, stages: Mapping[str, float]) -> RunFacts:
    return RunFacts(
        name=trained.run.name,
        command=command,
        hardware=hardware(),
        versions={"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        seed=trained.run.fit.seed,
        stages=stages,
        num_parameters=parameter_counts(trained.generator.model),
        settings_yaml=to_yaml(trained.run),
    )


def hardware() -> str:
    """The machine in a few words: the GPU's name, or threads and the CPU's name."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"{torch.get_num_threads()} threads of {processor()}"
