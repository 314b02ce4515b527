"""Where in a step the process is: a listener is told of every change of part (`record.PARTS`).

Nothing is waited for here. The backward pass begins when the loss, or on an earlier stage of a pipeline the stage's
output, receives its gradient; it lasts until something else begins, so that it has DeepSpeed's reduction of ZeRO-2.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

from torch import Tensor, nn
from torch.autograd import Variable
from torch.profiler import record_function

from triptych.data_pipelines.batch import Batch
from triptych.data_pipelines.vocabulary import Modality
from triptych.kernels.philox import Stream
from triptych.launch.profile.measure.counts import Counts
from triptych.models.diffusion.inputs import DiffusionInputs
from triptych.trainer.engine.engine import Engine
from triptych.trainer.objectives.masked_diffusion import DiffusionTargets, MaskedDiffusion
from triptych.trainer.seams import Data, LossTerms

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")

Listener = Callable[[str], None]
"""Told the part that begins; on CUDA also from the thread that runs the backward pass, while the main one waits."""


class Marks:
    """Hands the changes on to whoever listens now; `counts` are of the steps since it was last replaced."""

    def __init__(self) -> None:
        self.counts = Counts()
        self._listener: Listener | None = None

    def listen(self, listener: Listener | None) -> None:
        """None: nobody does, and a mark costs nothing."""
        self._listener = listener

    def __call__(self, part: str) -> None:
        if self._listener is not None:
            self._listener(part)


class MarkedData:
    """The Data seam. What is read stays "data" until the rows are prepared."""

    def __init__(self, data: Data, marks: Marks) -> None:
        self._data, self._marks = data, marks

    def batch(self, cursor: Mapping[str, int], size: int, rank: int, num_ranks: int) -> tuple[Any, dict[str, int]]:
        self._marks("data")
        with record_function("triptych: data"):
            batch, after = self._data.batch(cursor, size, rank, num_ranks)
        assert isinstance(batch, Batch)
        self._marks.counts.add_batch(batch)
        return batch, after


class MarkedObjective:
    """The objective's seam: rows are prepared; a loss ends the forward pass, and its gradient begins the backward."""

    def __init__(self, objective: MaskedDiffusion, marks: Marks, *, several_stages: bool) -> None:
        self._objective, self._marks, self._several_stages = objective, marks, several_stages

    def prepare(self, batch: Batch, stream: Stream) -> tuple[DiffusionInputs, DiffusionTargets]:
        self._marks("prepare")
        inputs, targets = self._objective.prepare(batch, stream)
        self._marks.counts.add_targets(targets)
        self._marks("other")
        return inputs, targets

    def loss(self, outputs: Mapping[Modality, Tensor], targets: DiffusionTargets) -> LossTerms:
        terms = self._objective.loss(outputs, targets)
        if terms.sum.requires_grad:
            terms.sum.register_hook(_begins_backward(self._marks, several_stages=self._several_stages))
        self._marks("other")
        return terms


class MarkedEngine:
    """The engine, as a step sees it: its two long methods are marked, all else is its own."""

    def __init__(self, engine: Engine, marks: Marks) -> None:
        self._engine = engine
        self.forward_backward = _named(engine.forward_backward, "forward and backward", lambda: None, marks)
        self.step = _named(engine.step, "optimizer", lambda: marks("optimizer"), marks)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


def _named(
    method: Callable[_Given, _Result], name: str, begin: Callable[[], None], marks: Marks
) -> Callable[_Given, _Result]:
    """The method, a range of that name in a trace, with "other" after it."""

    def call(*args: _Given.args, **kwargs: _Given.kwargs) -> _Result:
        begin()
        with record_function(f"triptych: {name}"):
            result = method(*args, **kwargs)
        marks("other")
        return result

    return call


def mark_passes(chunks: Sequence[nn.Module], marks: Marks, *, several_stages: bool) -> None:
    """Hooks on this process's chunks of the model. Recomputation runs layers, not chunks, so it is no forward pass."""
    for chunk in chunks:
        _mark_chunk(chunk, marks, several_stages=several_stages)


def _mark_chunk(chunk: nn.Module, marks: Marks, *, several_stages: bool) -> None:
    def begin(module: nn.Module, given: Any) -> None:
        marks("forward")

    def end(module: nn.Module, given: Any, output: Any) -> None:
        if isinstance(output, Tensor):  # what the next stage is sent; logits go on to the loss
            marks("other")
            if output.requires_grad:
                output.register_hook(_begins_backward(marks, several_stages=several_stages))

    chunk.register_forward_pre_hook(begin)
    chunk.register_forward_hook(end)


def _begins_backward(marks: Marks, *, several_stages: bool) -> Callable[[Tensor], None]:
    def begin(gradient: Tensor) -> None:
        marks("backward")
        if several_stages:
            # Where stages wait for each other the pass must have an end of its own. Autograd calls this at its end, as
            # torch's own FSDP and DDP have it.
            engine: Any = Variable._execution_engine
            engine.queue_callback(lambda: marks("other"))

    return begin
