"""How DeepSpeed is to run a model. Imports no DeepSpeed, so that settings can be read and refused without it."""

from dataclasses import dataclass
from typing import Any, Literal

import torch

REDUCE_BUCKET_ELEMENTS = 50_000_000
"""Gradients that are reduced over data-parallel ranks in one message. DeepSpeed's own 500 million are 2 GB of buffer,
twice where reduction overlaps; a tenth still takes milliseconds to send, so latency is nothing. Our choice, unmeasured.
"""


@dataclass(kw_only=True, slots=True, frozen=True)
class EngineConfig:
    """How DeepSpeed runs the model.

    zero_stage: 0 keeps the optimizer whole on every data-parallel rank, 1 shards it, 2 the gradients too. precision: of
    parameters and activations; master weights, moments and the accumulation of gradients are fp32 either way.
    gradient_clipping: largest norm of the gradient at the logical batch; 0 is no limit.
    """

    zero_stage: Literal[0, 1, 2] = 1
    precision: Literal["fp32", "bf16"] = "fp32"
    gradient_clipping: float = 1.0

    @property
    def dtype(self) -> torch.dtype:
        """Of parameters and activations."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32


def deepspeed_settings(config: EngineConfig) -> dict[str, Any]:
    """DeepSpeed's own configuration of the engine. Batch sizes are formal: the loop cuts the micro-batches.

    Overlap of the gradients' reduction with the backward pass exists for ZeRO-2 alone: with accumulation in our hands
    DeepSpeed reduces stages 0 and 1 once, in the step.
    """
    settings: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        # Without ZeRO and in fp32 DeepSpeed clips by the norm of this rank's parameters; `gradients` does it instead.
        "gradient_clipping": config.gradient_clipping if config.zero_stage else 0.0,
        "zero_optimization": {
            "stage": config.zero_stage,
            "overlap_comm": config.zero_stage == 2,
            "reduce_bucket_size": REDUCE_BUCKET_ELEMENTS,
            "allgather_bucket_size": REDUCE_BUCKET_ELEMENTS,
        },
        "communication_data_type": "fp32",  # else fp32 sums are rounded to bf16 before they are added over ranks
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
        "timers": {"throughput": {"enabled": False}},  # it waits for the device at every forward pass
    }
    if config.precision == "bf16":
        settings["bf16"] = {"enabled": True, "immediate_grad_update": True}
        settings["data_types"] = {"grad_accum_dtype": "fp32"}
    return settings
