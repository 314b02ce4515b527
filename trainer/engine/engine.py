"""The engine: gradients of a batch, one optimizer step, and the state that a checkpoint holds."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import deepspeed
import torch
from deepspeed.utils import lazy_init_hp_params_optimizer_state
from torch import Tensor, nn

from triptych.kernels.philox import Stream
from triptych.models.parameterization import ParameterKind
from triptych.models.sharding import sharding_of, whole_shape
from triptych.trainer.checkpoint.boxes import boxes_of_range
from triptych.trainer.checkpoint.shards import Held, State
from triptych.trainer.engine.config import REDUCE_BUCKET_ELEMENTS, EngineConfig, deepspeed_settings
from triptych.trainer.engine.divisor import LossDivisor
from triptych.trainer.engine.gradients import clip_gradients, sum_norms_alike
from triptych.trainer.engine.guard import Permit, UpdateGuard
from triptych.trainer.engine.halves import Gradient, GradientHalves
from triptych.trainer.engine.model_parallel_unit import ModelParallelUnit
from triptych.trainer.engine.schedule import PipelineSchedule, Prepared
from triptych.trainer.engine.stopwatch import Stopwatch
from triptych.trainer.metrics import MetricAccumulator
from triptych.trainer.optimizer import MATRICES_AND_VECTORS, KindGroups, build_adamw, set_hyper_parameters
from triptych.trainer.parallel.groups import Groups
from triptych.trainer.scaling.rules import AdamWValues
from triptych.trainer.seams import LossTerms, Objective, Rows

MOMENTS = ("exp_avg", "exp_avg_sq")


class Engine:
    """A model under DeepSpeed: ZeRO, clipping and the step are DeepSpeed's; when to step, and by how much, is ours.

    chunks: this rank's pieces of the model, one unless the pipeline is interleaved. kinds: of parameters that are given
    the same values. `managed_gradient_accumulation` is off, so that any number of micro-batches can make up a batch and
    every `step` is a boundary.
    """

    def __init__(
        self,
        chunks: Sequence[nn.Module],
        config: EngineConfig,
        groups: Groups,
        kinds: KindGroups = MATRICES_AND_VECTORS,
    ) -> None:
        if groups.device.type == "cpu":
            # Its shared-memory all-reduce is compiled at start (half a minute, needs a compiler) and gloo does without.
            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        # DeepSpeed asserts that this is set, as torchrun does; it is written here, not read.
        os.environ.setdefault("LOCAL_RANK", str(groups.placement.local_rank))  # noqa: TID251
        deepspeed.init_distributed(auto_mpi_discovery=False, verbose=False)
        self.chunks = list(chunks)
        self._config = config
        self._groups = groups
        model = self.chunks[0] if len(self.chunks) == 1 else nn.ModuleList(self.chunks)
        adamw = build_adamw(model, kinds)
        self._guard = UpdateGuard(adamw)
        # DeepSpeed puts flat partitions in the place of these.
        groups_of_parameters = [list(group["params"]) for group in adamw.param_groups]
        self._deepspeed: Any
        self._deepspeed, _, _, _ = deepspeed.initialize(
            model=model, optimizer=adamw, config=deepspeed_settings(config), mpu=ModelParallelUnit(groups)
        )
        # Without ZeRO the gradients are reduced, clipped and stepped with here, one after the other.
        self._deepspeed.enable_backward_allreduce = config.zero_stage > 0
        self._create_moments(groups_of_parameters)
        self.divisor = LossDivisor(groups.device)
        self._stopwatch = Stopwatch(groups.device)
        self._pipeline: PipelineSchedule | None = None
        if groups.layout.pipeline > 1:
            if config.zero_stage and config.precision == "fp32":
                sum_norms_alike(self._deepspeed.optimizer, len(kinds))
            self._pipeline = PipelineSchedule(self.chunks, groups, config.dtype)

    @property
    def module(self) -> nn.Module:
        """The whole model of this rank, where the pipeline has not cut it into several pieces."""
        (chunk,) = self.chunks
        return chunk

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """This rank's parameters under the names that they have in the whole model."""
        for chunk in self.chunks:
            yield from chunk.named_parameters()

    def forward_backward(
        self,
        micro_batches: Sequence[Rows],
        objective: Objective,
        stream: Stream,
        halves: GradientHalves | None = None,
    ) -> dict[str, float]:
        """Accumulate the gradient of this rank's part of a batch; returns the metrics of the whole of it.

        halves: is shown the gradients in the middle and at the end. ValueError if ZeRO-2 has taken them apart by then.

        Every micro-batch is prepared first: one number that follows from the whole batch, over all ranks, divides each
        loss (`LossDivisor`), so that neither accumulation nor the number of ranks nor padding changes the gradient.
        DeepSpeed averages over data-parallel ranks, hence the factor of their number.
        """
        for chunk in self.chunks:
            chunk.train()
        prepared = [objective.prepare(rows, stream) for rows in micro_batches]
        weight = self._groups.sum_over_data(torch.stack([targets.weight.double() for _, targets in prepared]).sum())
        num_data_ranks = self._groups.num_data_ranks
        divisor = self.divisor(weight, num_data_ranks * sum(len(rows) for rows in micro_batches))
        scale = (num_data_ranks / divisor.clamp(min=1e-30)).float()
        metrics = MetricAccumulator()
        self._stopwatch.start()
        for part in [prepared] if halves is None else [prepared[: halves.num_first], prepared[halves.num_first :]]:
            for terms in (self._pipeline or self._one_after_another)(part, objective, scale):
                metrics.add(terms)
            if halves is not None:
                halves.look(self._gradients())
        self._stopwatch.stop()
        return self._groups.from_last_stage(metrics.means(self._groups.sum_over_data))

    @property
    def busy_seconds(self) -> float:
        """For which this rank went through the model in the last batch; it does not wait there for data-parallel ranks,
        but for those that the model is split over, and for all where ZeRO-2 reduces gradients meanwhile.
        """
        return self._stopwatch.seconds

    def _one_after_another(self, prepared: Prepared, objective: Objective, scale: Tensor) -> Iterator[LossTerms]:
        """Without a pipeline. ZeRO-2 needs DeepSpeed's own backward, which reduces gradients as they appear."""
        for inputs, targets in prepared:
            terms = objective.loss(self._deepspeed(inputs), targets)
            self._deepspeed.backward(terms.sum * scale, scale_wrt_gas=False)
            yield terms

    def _gradients(self) -> list[Gradient]:
        """What this rank has accumulated, before any reduction. In bf16 DeepSpeed 0.19.8 moves each gradient to a flat
        fp32 buffer as soon as it appears.
        """
        if self._config.zero_stage == 2:
            raise ValueError(
                "fit.engine.zero_stage=2 partitions gradients as they appear, so their noise cannot be measured; "
                "set fit.engine.zero_stage=1"
            )
        elsewhere: dict[nn.Parameter, Tensor] = {}
        if self._config.precision == "bf16":
            wrapped = self._deepspeed.optimizer
            for parameters, gradients in zip(wrapped.bf16_groups, wrapped.fp32_groups_gradients, strict=True):
                elsewhere |= zip(parameters, gradients, strict=True)
        return [
            (name, parameter, gradient)
            for name, parameter in self.named_parameters()
            if (gradient := elsewhere.get(parameter, parameter.grad)) is not None
        ]

    def step(
        self,
        values: Mapping[ParameterKind, AdamWValues],
        *,
        clipping: float,
        num_updates: float,
        second_moment_factor: float = 1.0,
        permit: Permit = math.isfinite,
    ) -> float:
        """Clip to a norm of at most `clipping` (0: no limit), update, clear the gradients; returns the gradient norm
        before clipping, infinite or not-a-number where it is not finite.

        num_updates: of Adam's bias correction 1 - beta^n, this update among them. Where betas change with the batch it
        is no whole number: n is counted in updates of the present size. second_moment_factor: as
        `scale_second_moments`, before the update. permit: is asked once the norm is known, on every rank; where it says
        no, weights and moments stay as they are, bit for bit. It must say no to a norm that is not finite.
        """
        set_hyper_parameters(self._deepspeed.optimizer.param_groups, values)
        for moments in self._moments().values():
            moments["step"].fill_(num_updates - 1)  # the optimizer adds one
        norm = math.nan
        if self._config.zero_stage:
            self._deepspeed.optimizer.clip_grad = clipping
        else:
            self._deepspeed.buffered_allreduce_fallback(elements_per_buffer=REDUCE_BUCKET_ELEMENTS)
            norm = clip_gradients([parameter for _, parameter in self.named_parameters()], clipping, self._groups)

        def ask() -> bool:
            nonlocal norm
            if self._config.zero_stage:
                norm = float(self._deepspeed.optimizer._global_grad_norm)
            if not permit(norm):
                return False
            assert math.isfinite(norm), "an update was permitted by a gradient that is not finite"
            if second_moment_factor != 1.0:
                self.scale_second_moments(second_moment_factor)
            return True

        self._guard.run(self._deepspeed.step, ask)
        return norm

    @torch.no_grad()
    def scale_second_moments(self, factor: float) -> None:
        """Multiply Adam's averages of squared gradients."""
        torch._foreach_mul_([moments["exp_avg_sq"] for moments in self._moments().values()], factor)

    def held(self) -> State:
        """What this rank holds of the fp32 weights and moments, as boxes of whole parameters, to be read or written in
        place.
        """
        parts: dict[str, dict[str, Held]] = {part: {} for part in ("weights", *MOMENTS)}
        for name, parameter in self.named_parameters():
            start, memory = self._flat_memory(parameter)
            for part in parts:
                parts[part][name] = self._held(parameter, memory.get(part), start)
        return parts

    def module_weights(self) -> Mapping[str, Held]:
        """This rank's parameters as the forward pass reads them, in its precision."""
        return {
            name: self._held(parameter, parameter.detach().view(-1), 0) for name, parameter in self.named_parameters()
        }

    def weights_written(self) -> None:
        """Call on all ranks after writing weights of `held` into place: the forward pass reads them from then on."""
        if self._config.zero_stage:  # else it reads the very same memory
            self._deepspeed.optimizer.update_lp_params()

    def _held(self, parameter: nn.Parameter, flat: Tensor | None, start: int) -> Held:
        sharding, tensor = sharding_of(parameter), self._groups.collection.tp
        local_shape = tuple(parameter.shape)
        boxes = ()
        if flat is not None:
            boxes = boxes_of_range(
                flat,
                start=start,
                local_shape=local_shape,
                sharding=sharding,
                rank=tensor.rank(),
                num_ranks=tensor.size(),
            )
        return Held(shape=whole_shape(local_shape, sharding, tensor.size()), boxes=boxes)

    def _flat_memory(self, parameter: nn.Parameter) -> tuple[int, dict[str, Tensor]]:
        """Where in the flattened parameter this rank's share begins, and the share's memory by part; none at all where
        a ZeRO partition has nothing of it.
        """
        if not self._config.zero_stage:
            moments = self._moments()[parameter]
            return 0, {"weights": parameter.detach().view(-1), **{key: moments[key].view(-1) for key in MOMENTS}}
        # DeepSpeed's public functions gather whole parameters on every rank; the share alone is here.
        fragment: Any = getattr(parameter, "_hp_mapping", None)
        if fragment is None:
            return 0, {}
        memory = {"weights": fragment.get_hp_fragment().detach()}
        memory |= {key: fragment.get_optim_state_fragment(key) for key in MOMENTS}
        return fragment.lp_fragment_address.start, memory

    def _moments(self) -> dict[Tensor, dict[str, Tensor]]:
        """The optimizer's state, by parameter or by flat partition."""
        return self._torch_optimizer().state

    def _torch_optimizer(self) -> torch.optim.Optimizer:
        wrapped = self._deepspeed.optimizer
        return wrapped.optimizer if self._config.zero_stage else wrapped

    def _create_moments(self, groups_of_parameters: Sequence[Sequence[nn.Parameter]]) -> None:
        """Make the optimizer's state, which torch would make in its first step, and link it to the parameters.

        DeepSpeed 0.19.8 links all parameter groups after the first group's first step, when the others have no state
        yet, and never again: their moments could then not be read.
        """
        for parameters, group in zip(groups_of_parameters, self._torch_optimizer().param_groups, strict=True):
            for owner in group["params"]:
                state: dict[str, Tensor] = {key: torch.zeros_like(owner, requires_grad=False) for key in MOMENTS}
                self._moments()[owner] = {"step": torch.zeros((), device=owner.device), **state}
                if self._config.zero_stage:
                    lazy_init_hp_params_optimizer_state(parameters, owner, self._moments())
