"""DeepSpeed as the trainer sees it: gradients of a logical batch, one optimizer step, and state keyed by parameter
name.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import deepspeed
import torch
from deepspeed.utils import (
    lazy_init_hp_params_optimizer_state,
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

    zero_stage: 1 shards the optimizer over data-parallel ranks, 2 the gradients too. precision: of parameters and
    activations; master weights, moments and the accumulation of gradients are fp32 either way.
    """

    zero_stage: Literal[1, 2] = 1
    precision: Literal["fp32", "bf16"] = "fp32"
    gradient_clipping: float = 1.0


class ModelParallelUnit:
    """megatron-core's groups under the names that DeepSpeed asks its `mpu` for: its model parallelism is tensor times
    pipeline.
    """

    @staticmethod
    def get_model_parallel_rank() -> int:
        tensor_ranks = parallel_state.get_tensor_model_parallel_world_size()
        return (
            parallel_state.get_tensor_model_parallel_rank()
            + tensor_ranks * parallel_state.get_pipeline_model_parallel_rank()
        )

    @staticmethod
    def get_model_parallel_world_size() -> int:
        return (
            parallel_state.get_tensor_model_parallel_world_size()
            * parallel_state.get_pipeline_model_parallel_world_size()
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(parallel_state, name)


class Engine:
    """A model under DeepSpeed: ZeRO, clipping and the step are DeepSpeed's; when to step, and by how much, is ours.

    `managed_gradient_accumulation` is off, so that any number of micro-batches can make up a logical batch and every
    `step` is a boundary.
    """

    def __init__(self, model: nn.Module, config: EngineConfig, optimizer: AdamWConfig, groups: Groups) -> None:
        if groups.device.type == "cpu":
            # Its shared-memory all-reduce is compiled at start (half a minute, needs a compiler) and gloo does without.
            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        # DeepSpeed asserts that this is set, as torchrun does; it is written here, not read.
        os.environ.setdefault("LOCAL_RANK", str(groups.placement.local_rank))  # noqa: TID251
        deepspeed.init_distributed(auto_mpi_discovery=False, verbose=False)
        self._groups = groups
        adamw = build_adamw(model, optimizer)
        # DeepSpeed puts flat partitions in the place of these.
        groups_of_parameters = [list(group["params"]) for group in adamw.param_groups]
        self._deepspeed: Any
        self._zero: Any
        self._deepspeed, self._zero, _, _ = deepspeed.initialize(
            model=model, optimizer=adamw, config=_deepspeed_config(config), mpu=ModelParallelUnit()
        )
        self._create_moments(groups_of_parameters)

    @property
    def module(self) -> nn.Module:
        return self._deepspeed.module

    def forward_backward(self, micro_batches: Sequence[Rows], objective: Objective, stream: Stream) -> dict[str, float]:
        """Accumulate the gradient of this rank's part of a logical batch; returns the metrics of the whole of it.

        Every micro-batch is prepared first: the weight of the whole logical batch, over all ranks, divides each loss,
        so that neither accumulation nor the number of ranks nor padding changes the gradient. DeepSpeed averages over
        data-parallel ranks, hence the factor of their number.
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

        A collective over the data-parallel ranks: every rank must run the iterator to its end.
        """
        for name, parameter in self.module.named_parameters():
            full = {key: safe_get_full_optimizer_state(parameter, key) for key in MOMENTS}
            full["weight"] = safe_get_full_fp32_param(parameter)
            yield name, {key: tensor.cpu() for key, tensor in full.items() if tensor is not None}

    @property
    def num_updates(self) -> int:
        """Optimizer steps taken, which Adam's bias correction needs."""
        return int(next(iter(self._moments().values()))["step"])

    @torch.no_grad()
    def load_named_state(self, state: Mapping[str, Mapping[str, Tensor]], num_updates: int) -> None:
        """Put back what `named_state` yielded, in any number of data-parallel ranks."""
        for name, parameter in self.module.named_parameters():
            saved = {key: tensor.to(parameter.device) for key, tensor in state[name].items()}
            parameter.copy_(saved["weight"])
            safe_set_full_fp32_param(parameter, saved["weight"])
            for key in MOMENTS:
                safe_set_full_optimizer_state(parameter, saved[key], key)
        for moments in self._moments().values():
            moments["step"].fill_(num_updates)

    def _moments(self) -> dict[Tensor, dict[str, Tensor]]:
        """The optimizer's state, by flat partition."""
        return self._zero.optimizer.state

    def _create_moments(self, groups_of_parameters: Sequence[Sequence[nn.Parameter]]) -> None:
        """Make the optimizer's state, which torch would make in its first step, and link it to the parameters.

        DeepSpeed 0.19.8 links all parameter groups after the first group's first step, when the others have no state
        yet, and never again: their moments could then not be read.
        """
        for parameters, group in zip(groups_of_parameters, self._zero.optimizer.param_groups, strict=True):
            (partition,) = group["params"]
            state: dict[str, Tensor] = {key: torch.zeros_like(partition) for key in MOMENTS}
            self._moments()[partition] = {"step": torch.zeros((), device=partition.device), **state}
            lazy_init_hp_params_optimizer_state(parameters, partition, self._moments())


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
