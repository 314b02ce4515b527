"""Memory of a run before it is built, in the parts of a record: the engine's by `trainer/parallel/memory.py`, the
activations by the planner.
"""

from collections.abc import Sequence

from triptych.configs.trimodal import TrimodalRun
from triptych.launch.planning.model.activations import Form, activation_bytes
from triptych.launch.planning.model.memory import group_sizes
from triptych.launch.planning.runs import workload_of
from triptych.trainer.engine.config import REDUCE_BUCKET_ELEMENTS
from triptych.trainer.parallel.memory import MemoryEstimate, memory_estimate


def predicted_parts(
    run: TrimodalRun, world_size: int, sizes: Sequence[int], *, stage: int, form: Form
) -> dict[str, int]:
    """`record.MEMORY_PARTS` as predicted, bytes, of a process of a pipeline's stage that has parameters of these sizes
    in the optimizer's groups.
    """
    held = _held(run, world_size, sizes, form)
    return {
        "parameters": held.parameters,
        "gradients": held.gradients,
        "optimizer": held.optimizer,
        "buffers": held.buffers,
        "activations": activation_bytes(workload_of(run, world_size), stage, form).total,
    }


def predicted_bytes(run: TrimodalRun, world_size: int, form: Form) -> int:
    """The most that a process of a run on so many holds at one time. The layout must be legal."""
    work = workload_of(run, world_size)
    return max(
        _held(run, world_size, group_sizes(work, stage), form).peak(
            activation_bytes(work, stage, form).total, num_micro_batches=work.num_micro_batches
        )
        for stage in range(work.layout.pipeline)
    )


def _held(run: TrimodalRun, world_size: int, sizes: Sequence[int], form: Form) -> MemoryEstimate:
    """A CPU backs of the buffers for gradients only what is written."""
    return memory_estimate(
        sizes,
        zero_stage=run.fit.engine.zero_stage,
        precision=run.fit.engine.precision,
        data_ranks=run.plan(world_size).data_ranks,
        bucket_elements=min(REDUCE_BUCKET_ELEMENTS, sum(sizes)) if form == "cpu" else REDUCE_BUCKET_ELEMENTS,
    )
