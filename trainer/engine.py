"""DeepSpeed as the trainer sees it: gradients of a logical batch, one optimizer step, and state keyed by parameter name."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import deepspeed
import torch
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
)
from megatron.core import parallel_state
from torch import Tensor, nn

from triptych.kernels.philox import Stream
from triptych.trainer.metrics import MetricAccumulator
from triptych.trainer.optimizer import AdamWConfig, build_adamw, set_learning_rate
from triptych.trainer.parallel.groups import Groups
from triptych.trainer.seams import Objective, Rows

MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(kw_only=True, slots=True, frozen=True)
class EngineConfig:
    """How DeepSpeed runs the model.

    zero_stage: 1 shards the optimizer over data-parallel ranks, 2 the gradients too. precision: of parameters and activations;
    master weights, moments and the accumulation of gradients are fp32 either way.
    """

    zero_stage: Literal[1, 2] = 1
    precision: Literal["fp32", "bf16"] = "fp32"
    gradient_clipping: float = 1.0


class ModelParallelUnit:
    """megatron-core's groups under the names that DeepSpeed asks its `mpu` for: its model parallelism is tensor times pipeline."""

    @staticmethod
    def get_model_parallel_rank() -> int:
        tensor_ranks = parallel_state.get_tensor_model_parallel_world_size()
        return parallel_state.get_tensor_model_parallel_rank() + tensor_ranks * parallel_state.get_pipeline_model_parallel_rank()

    @staticmethod
    def get_model_parallel_world_size() -> int:
        return parallel_state.get_tensor_model_parallel_world_size() * parallel_state.get_pipeline_model_parallel_world_size()

    def __getattr__(self, name: str) -> Any:
        return getattr(parallel_state, name)


class Engine:
    """A model under DeepSpeed: ZeRO, clipping and the step are DeepSpeed's; when to step, and by how much, is ours.

    `managed_gradient_accumulation` is off, so that any number of micro-batches can make up a logical batch and every `step` is a
    boundary.
    """

    def __init__(self, model: nn.Module, config: EngineConfig, optimizer: AdamWConfig, groups: Groups) -> None:
        if groups.device.type == "cpu":
            # Its shared-memory all-reduce is compiled at start (half a minute, needs a compiler) and gloo does without.
            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        os.environ.setdefault("LOCAL_RANK", str(groups.placement.local_rank))  # DeepSpeed asserts it; torchrun sets it
        deepspeed.init_distributed(auto_mpi_discovery=False, verbose=False)
        self._groups = groups
        self._deepspeed, self._zero, _, _ = deepspeed.initialize(
            model=model, optimizer=build_adamw(model, optimizer), config=_deepspeed_config(config), mpu=ModelParallelUnit()
        )

    @property
    def module(self) -> nn.Module:
        return self._deepspeed.module

    def forward_backward(
        self, micro_batches: Sequence[Rows], objective: Objective, stream: Stream
    ) -> dict[str, float]:
        """Accumulate the gradient of this rank's part of a logical batch; returns the metrics of the whole of it.

        Every micro-batch is prepared first: the weight of the whole logical batch, over all ranks, divides each loss, so that neither
        accumulation nor the number of ranks nor padding changes the gradient. DeepSpeed averages over data-parallel ranks, hence the
        factor of their number.
        """
        self.module.train()
        prepared = [objective.prepare(rows, stream) for rows in micro_batches]
        weight = self._groups.sum_over_data(torch.stack([targets.weight.double() for _, targets in prepared]).sum())
        scale = self._groups.num_data_ranks / max(weight.item(), 1e-30)
        metrics = MetricAccumulator()
        for inputs, targets in prepared:
            terms = objective.loss(self._deepspeed(inputs), targets)
            self._deepspeed.backward(terms.sum * scale, scale_wrt_gas=False)
            metrics.add(terms)
        return metrics.means(self._groups.sum_over_data)

    def step(self, learning_rate: float) -> float:
        """Clip, update, clear the gradients; returns the gradient norm before clipping."""
        set_learning_rate(self._deepspeed.optimizer.param_groups, learning_rate)
        self._deepspeed.step()
        return float(self._deepspeed.get_global_grad_norm())

    def named_state(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Yield (name, {"weight", "exp_avg", "exp_avg_sq"}), full fp32 tensors on the CPU, one parameter at a time.

        A collective over the data-parallel ranks: every rank must run the iterator to its end. The moments are missing before the
        first step.
        """
        has_moments = bool(self._zero.optimizer.state)
        for name, parameter in self.module.named_parameters():
            state = {"weight": safe_get_full_fp32_param(parameter).cpu()}
            if has_moments:
                state |= {key: safe_get_full_optimizer_state(parameter, key).cpu() for key in MOMENTS}
            yield name, state

    @property
    def num_updates(self) -> int:
        """Optimizer steps taken, which Adam's bias correction needs."""
        states = list(self._zero.optimizer.state.values())
        return int(states[0]["step"]) if states else 0

    @torch.no_grad()
    def load_named_state(self, state: Mapping[str, Mapping[str, Tensor]], num_updates: int) -> None:
        """Put back what `named_state` yielded, in any number of data-parallel ranks."""
        if num_updates:
            self._make_moments(num_updates)
        for name, parameter in self.module.named_parameters():
            saved = state[name]
            weight = saved["weight"].to(parameter.device)
            parameter.copy_(weight)
            safe_set_full_fp32_param(parameter, weight)
            if num_updates:
                for key in MOMENTS:
                    safe_set_full_optimizer_state(parameter, saved[key].to(parameter.device), key)

    def _make_moments(self, num_updates: int) -> None:
        """Create the optimizer's state, which torch makes in its first step, and link it to the parameters as DeepSpeed then does."""
        state = self._zero.optimizer.state
        for partition in self._zero.single_partition_of_fp32_groups:
            state[partition] = {key: torch.zeros_like(partition) for key in MOMENTS}
            state[partition]["step"] = torch.tensor(float(num_updates), device=partition.device)
        for parameters, partition in zip(self._zero.bit16_groups, self._zero.single_partition_of_fp32_groups, strict=True):
            deepspeed.utils.lazy_init_hp_params_optimizer_state(parameters, partition, state)


def _deepspeed_config(config: EngineConfig) -> dict[str, Any]:
    """DeepSpeed's own configuration of the engine. Batch sizes are formal: the loop cuts the micro-batches."""
    settings: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": config.gradient_clipping,
        "zero_optimization": {"stage": config.zero_stage, "overlap_comm": False},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
    }
    if config.precision == "bf16":
        settings["bf16"] = {"enabled": True, "immediate_grad_update": True}
        settings["data_types"] = {"grad_accum_dtype": "fp32"}
    return settings
