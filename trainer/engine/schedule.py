"""Forward and backward passes of a batch: one micro-batch after the other, or through a pipeline."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from megatron.core.pipeline_parallel import get_forward_backward_func
from megatron.core.pipeline_parallel.p2p_communication import P2PCommunicator
from torch import Tensor, nn

from triptych.trainer.parallel.groups import Groups
from triptych.trainer.seams import LossTerms, Objective

Prepared = Sequence[tuple[Any, Any]]
"""Inputs and targets of each micro-batch."""


class PipelineSchedule:
    """megatron-core's 1F1B over this rank's chunks of the model, interleaved if there are several.

    Gradients add up in the parameters; whoever takes the step reduces them. Between stages travels one tensor per
    micro-batch, so all micro-batches must have the same size.
    """

    def __init__(self, chunks: Sequence[nn.Module], groups: Groups, dtype: torch.dtype) -> None:
        self._chunks = list(chunks)
        self._groups = groups
        interleaved = len(self._chunks) > 1
        for chunk in self._chunks:
            config: Any = chunk.config
            config.pipeline_dtype = dtype
            config.virtual_pipeline_model_parallel_size = len(self._chunks) if interleaved else None
            config.microbatch_group_size_per_vp_stage = groups.layout.pipeline
            # Sending while computing is offered where chunks are interleaved. With two stages it is also the only
            # right way: one batch of messages to the one neighbour, who is both next and previous, gets mixed up.
            config.overlap_p2p_comm = interleaved
            config.batch_p2p_comm = not interleaved
            config.batch_p2p_sync = False
            # Free what has been sent. gloo, unlike NCCL, may still be reading it where sending overlaps.
            config.deallocate_pipeline_outputs = groups.device.type == "cuda" or not interleaved
        first: Any = self._chunks[0].config
        self._communicator = P2PCommunicator(pp_group=groups.collection.pp, config=first)
        self._run = get_forward_backward_func(
            pp_size=groups.layout.pipeline, vp_size=groups.layout.virtual if interleaved else None
        )

    def __call__(self, prepared: Prepared, objective: Objective, scale: Tensor) -> Iterator[LossTerms]:
        """Accumulate the gradients of all micro-batches, each loss sum times `scale`; yields their terms on the last
        stage, and nothing on the others.
        """
        sequence_length, micro_batch = _sizes(prepared)
        terms: list[LossTerms] = []

        def forward_step(micro_batches: Iterator[tuple[Any, Any]], chunk: nn.Module) -> tuple[Any, Callable[..., Any]]:
            inputs, targets = next(micro_batches)

            def loss(outputs: Any) -> tuple[Tensor, Tensor, None]:
                terms.append(objective.loss(outputs, targets))
                return terms[-1].sum * scale, torch.zeros((), dtype=torch.int, device=self._groups.device), None

            return chunk(inputs), loss

        iterators = [iter(prepared) for _ in self._chunks]
        self._run(
            forward_step_func=forward_step,
            data_iterator=iterators,
            model=self._chunks,
            num_microbatches=len(prepared),
            seq_length=sequence_length,
            micro_batch_size=micro_batch,
            p2p_communicator=self._communicator,
            pg_collection=self._groups.collection,
        )
        yield from terms


def _sizes(prepared: Prepared) -> tuple[int, int]:
    """Positions and rows of each micro-batch, which the stages after the first must know before they receive one."""
    shapes = {tuple(inputs.tokens_BS.shape) for inputs, _ in prepared}
    assert len(shapes) == 1, f"micro-batches of one pipeline differ in shape: {shapes}"
    ((rows, positions),) = shapes
    return positions, rows
