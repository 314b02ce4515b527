"""A trained run that takes jobs, and answers with samples."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.data_pipelines.stream.sequences import SIDES
from triptych.kernels.philox import Stream
from triptych.launch.serving.holes import painted_holes, span_holes, text_pieces, timed_holes
from triptych.launch.serving.jobs import Job, JobReader, target_of, tasks_of
from triptych.launch.serving.limits import ServingLimitsConfig
from triptych.launch.serving.media import Sample, as_sample
from triptych.launch.serving.refusals import Refused
from triptych.launch.serving.worker import Ticket, Worker
from triptych.launch.trained import Trained, audio_rate, codes_of
from triptych.models.diffusion.sampling import Sampler
from triptych.trainer.generation import Codes, Filling, Generator, Snapshot


@dataclass(kw_only=True, slots=True, frozen=True)
class Progress:
    """After a step, from 1. snapshots: of each sample of a batch."""

    step: int
    num_steps: int
    snapshots: list[Snapshot]


Watch = Callable[[Progress], None]


class Service:
    """The only holder of the model: all that computes runs on the worker's thread.

    ValueError for a run whose tokenizers do not make the pictures that it was trained on.
    """

    def __init__(self, trained: Trained, limits: ServingLimitsConfig, seed: int) -> None:
        self.trained = trained
        self.limits = limits
        self.worker = Worker(limits.waiting)
        num_codes = trained.run.data.regions.image
        (blank,) = trained.tokenizers["image"].decode([np.zeros(num_codes, np.int64)])
        self.reader = JobReader(
            run=trained.run,
            limits=limits,
            picture=blank.shape,
            sample_rate_hertz=audio_rate(trained.tokenizers),
            seed=seed,
        )

    def submit(self, job: Job, seconds: float, watch: Watch | None = None) -> Ticket:
        """Have a job done within so many seconds; its future holds a list of samples. Refused (503) without room."""
        return self.worker.submit(lambda ticket: self.run(job, ticket, watch), seconds)

    def run(self, job: Job, ticket: Ticket, watch: Watch | None = None) -> list[Sample]:
        """The samples that `triptych sample` makes with this seed. Stopped between two steps once the ticket is; what
        cannot be done is Refused (422).
        """
        target = target_of(job.task)
        sampler = Sampler(
            replace(self.trained.run.sampling, **{target: job.sampling}), self.trained.run.model.vocabulary
        )
        generator = replace(self.trained.generator, sampler=sampler, stream=Stream(seed=job.seed))
        try:
            made: list[Codes] = []
            for filling in self._fillings(generator, job):
                tokens_BS = filling.canvas.tokens_BS
                for state in generator.steps(filling):
                    ticket.go_on()
                    tokens_BS = state.tokens_BS
                    if watch is not None:
                        snapshots = generator.snapshots(filling, tokens_BS)
                        watch(Progress(step=state.step + 1, num_steps=state.num_steps, snapshots=snapshots))
                made += generator.codes(filling, tokens_BS)
            ticket.go_on()
            raw = self.trained.tokenizers[target].decode(made)
        except ValueError as error:
            raise Refused(422, " ".join(str(error).split())) from None
        return [as_sample(one, self.reader.sample_rate_hertz) for one in raw]

    def tasks(self) -> list[dict[str, Any]]:
        """What the run can do, and how it samples if it is not told otherwise."""
        run, listed = self.trained.run, []
        for task in tasks_of(run):
            config, target = run.sampling.of(target_of(task)), target_of(task)
            room = run.model.sequence_length - 2 if task == "text" else run.data.regions.of(SIDES[task][0])
            listed.append(
                {
                    "task": task,
                    "takes": "text" if task == "text" else SIDES[task][0],
                    "makes": target,
                    "condition_codes": room,
                    "target_codes": run.model.sequence_length - 1 if task == "text" else run.data.regions.of(target),
                    "infill": task in ("text", "t2i", "t2s"),
                    "sampling": {
                        "num_steps": config.num_steps,
                        "temperature": config.temperature,
                        "top_p": config.top_p,
                        "guidance": config.guidance,
                        "rule": config.rule.kind,
                        "choice_temperature": getattr(config.rule, "choice_temperature", None),
                        "block_length": config.block_length,
                    },
                }
            )
        return listed

    def _fillings(self, generator: Generator, job: Job) -> Iterator[Filling]:
        regions, tokenizers = self.trained.run.data.regions, self.trained.tokenizers
        if job.refill is not None and job.task == "text":
            codes, holes = self._text_with_holes(job.refill.raw)
            yield generator.text_infilling(job.num, codes, holes)
        elif job.task == "text":
            room = self.trained.run.model.sequence_length - 2  # after the task's token, and with one place to fill
            yield generator.text_filling(job.num, codes_of(tokenizers["text"], "prompt", job.condition, room))
        else:
            condition, target = SIDES[job.task]
            name = "prompt" if condition == "text" else "file"
            codes = codes_of(tokenizers[condition], name, job.condition, regions.of(condition))
            if job.refill is None:
                yield from generator.pair_fillings(job.task, [codes] * job.num)
                return
            there = codes_of(tokenizers[target], "infill.file", job.refill.raw, regions.of(target))
            holes = np.zeros(regions.of(target), bool)
            holes[: len(there)] = self._holes(job, there)
            for start in range(0, job.num, generator.batch_size):
                pairs = [(codes, there)] * min(job.num - start, generator.batch_size)
                yield generator.infilling(job.task, pairs, holes, start)

    def _holes(self, job: Job, there: Codes) -> NDArray[np.bool_]:
        """ValueError if there is none."""
        assert job.refill is not None
        if job.refill.painted is not None:
            holes = painted_holes(job.refill.painted, len(there))
        elif job.refill.seconds and len(there):
            (decoded,) = self.trained.tokenizers["audio"].decode([there])
            holes = timed_holes(job.refill.seconds, len(there), len(decoded) / self.reader.sample_rate_hertz)
        else:
            holes = span_holes(job.refill.spans, len(there))
        if not holes.any():
            raise ValueError("nothing is marked to be made anew; mark more")
        return holes

    def _text_with_holes(self, text: str) -> tuple[Codes, NDArray[np.bool_]]:
        room = self.trained.run.model.sequence_length - 1
        codes, holes = [], []
        for piece in text_pieces(text):
            if isinstance(piece, int):
                codes.append(np.zeros(min(piece, room + 1), np.int64))
            else:
                codes += self.trained.tokenizers["text"].encode([piece])
            holes.append(np.full(len(codes[-1]), isinstance(piece, int)))
        number = sum(len(part) for part in codes)
        if number > room:
            raise ValueError(f"infill.text takes {number} text codes, the run has {room}; shorten it")
        if not any(part.any() for part in holes):
            raise ValueError("infill.text has no hole; write one of three tokens as [[3]]")
        return np.concatenate(codes), np.concatenate(holes)


def seconds_left(begun: float, seconds: float) -> float:
    """Of so many from `begun`, on the clock time.monotonic."""
    return max(0.0, begun + seconds - time.monotonic())
