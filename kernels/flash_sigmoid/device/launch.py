"""`forward` and `backward` as the operator wants them: what the kernels are given, and how many programs of them run.

A `Call` is one launch that has not happened: tests compile the same calls for GPUs that are not there.

Shape legend: B rows, S and T positions of queries and keys, H query heads, G key-value heads, D head dimension of
queries and keys, E of values, N segments (rows where there are none).
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import triton
from torch import Tensor
from triton.runtime.jit import JITFunction

from triptych.kernels.flash_sigmoid.device import backward as backward_kernels
from triptych.kernels.flash_sigmoid.device import forward as forward_kernels
from triptych.kernels.flash_sigmoid.device import norms as norms_kernels
from triptych.kernels.flash_sigmoid.device.schedules import INTERPRETED, Direction, Schedule, family, schedule_for
from triptych.kernels.flash_sigmoid.problem import UNBOUNDED, Problem, output_like

FP16_WEIGHT_SCALE = 2.0**15
"""The largest power of two that fp16 holds: weights of at most 1 then are normal numbers down to 2^-29, a logit of
-20.
"""
_BYTES_IN_CACHE = 24 << 20
"""Our choice, not measured: half of an H100's L2 cache for the heads that are worked on at once."""
_FARTHEST = 1 << 30
"""No window is wider, and sums of three such numbers stay in int32."""
_ROWS_PER_NORM = 64
_LOGIT = {"tanh": 0.5, "batched": -1.4426950408889634, "exact": -1.4426950408889634}
"""What y is of a logit, for each way to sigma."""
_FUSED = {"enable_fp_fusion": True}
"""Triton's default for this changes between the versions that we run on."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Kernels:
    """The kernels as compiled functions, or as functions of Triton's interpreter."""

    forward: Any = forward_kernels.forward_kernel
    query_gradient: Any = backward_kernels.query_gradient
    key_gradient: Any = backward_kernels.key_gradient
    largest_norms: Any = norms_kernels.largest_norms

    @property
    def interpreted(self) -> bool:
        return not isinstance(self.forward, JITFunction)


@dataclass(kw_only=True, slots=True, frozen=True)
class Call:
    """kernel[(num_programs,)](**arguments, **options)."""

    kernel: Any
    num_programs: int
    arguments: Mapping[str, Any]
    options: Mapping[str, Any]

    def run(self) -> None:
        if self.num_programs:
            self.kernel[(self.num_programs,)](**self.arguments, **self.options)


@dataclass(kw_only=True, slots=True, frozen=True)
class Launcher:
    """Runs calls. schedules: None takes those of the table for the device of the tensors."""

    kernels: Kernels
    schedules: Mapping[Direction, Schedule] | None = None

    def forward(self, query_BSHD: Tensor, key_BTGD: Tensor, value_BTGE: Tensor, problem: Problem) -> Tensor:
        self._require_device(query_BSHD)
        query, key, value = (_with_dense_rows(x) for x in (query_BSHD, key_BTGD, value_BTGE))
        out = _allocated(output_like(query_BSHD, value.shape[3]), problem)
        with _on(query.device):
            forward_call(query, key, value, out, problem, self.kernels, self._schedule("forward", query, value)).run()
        return out

    def backward(
        self, grad_BSHE: Tensor, query_BSHD: Tensor, key_BTGD: Tensor, value_BTGE: Tensor, problem: Problem
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        self._require_device(query_BSHD)
        dq, dk, dv = (_allocated(torch.empty_like(x), problem) for x in (query_BSHD, key_BTGD, value_BTGE))
        grad, query, key, value = (_with_dense_rows(x) for x in (grad_BSHE, query_BSHD, key_BTGD, value_BTGE))
        with _on(query.device):
            norms = self._norms(grad, value, problem)
            schedule = self._schedule("query_gradient", query, value)
            call, partial = query_gradient_call(grad, query, key, value, dq, norms, problem, self.kernels, schedule)
            call.run()
            schedule = self._schedule("key_gradient", query, value)
            for call in key_gradient_calls(grad, query, key, value, dk, dv, norms, problem, self.kernels, schedule):
                call.run()
        if problem.bias_NH is None or partial is None:
            return dq, dk, dv, None
        return dq, dk, dv, partial.sum(1).view(problem.bias_NH.shape)

    def _norms(self, grad: Tensor, value: Tensor, problem: Problem) -> Tensor | None:
        """fp32 [N * G, 2]: the largest norms of rows of dO and of V, for fp16 alone."""
        if grad.dtype != torch.float16:
            return None
        norms = torch.zeros(_num_segments(value, problem) * value.shape[2], 2, dtype=torch.int32, device=value.device)
        norms_call(grad, norms, "queries", grad.shape[2] // value.shape[2], problem, self.kernels).run()
        norms_call(value, norms[:, 1:], "keys", 1, problem, self.kernels).run()
        return norms.view(torch.float32)

    def _schedule(self, direction: Direction, query: Tensor, value: Tensor) -> Schedule:
        if self.schedules is not None:
            return self.schedules[direction]
        if self.kernels.interpreted:
            return INTERPRETED
        arch = family(*torch.cuda.get_device_capability(query.device))
        return schedule_for(direction, max(query.shape[3], value.shape[3]), query.element_size(), arch)

    def _require_device(self, query: Tensor) -> None:
        if not (query.is_cuda or self.kernels.interpreted):
            raise ValueError(f"kernel='triton' with tensors on {query.device}; move them to a GPU, or take 'blocked'")


_LAUNCHER = Launcher(kernels=Kernels())


def forward(query_BSHD: Tensor, key_BTGD: Tensor, value_BTGE: Tensor, problem: Problem) -> Tensor:
    """O [B, S, H, E], as `output_like` lays it out; 0 where no segment is. ValueError: the tensors are on no GPU."""
    return _LAUNCHER.forward(query_BSHD, key_BTGD, value_BTGE, problem)


def backward(
    grad_BSHE: Tensor, query_BSHD: Tensor, key_BTGD: Tensor, value_BTGE: Tensor, problem: Problem
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Gradients of queries, keys, values, and of bias_NH or None; the same bits each time. ValueError as `forward`."""
    return _LAUNCHER.backward(grad_BSHE, query_BSHD, key_BTGD, value_BTGE, problem)


def forward_call(
    query: Tensor, key: Tensor, value: Tensor, out: Tensor, problem: Problem, kernels: Kernels, schedule: Schedule
) -> Call:
    """out: what the call fills in."""
    large = {"query": query, "key": key, "value": value, "out": out}
    arguments = _arguments(large, problem, kernels, schedule)
    # Elsewhere ptxas lets each product of sm_90 wait for the one before, with scores ahead of weights.
    simple = not (arguments["D1"] or arguments["E1"] or arguments["HAS_LEFT"])
    arguments["SCORES_AHEAD"] = schedule.scores_ahead if simple else 0
    tiles = _programs(
        query.shape[2], problem.max_query_length, schedule.block_queries, problem.max_key_length, arguments
    )
    return _call(kernels.forward, arguments | tiles, schedule)


def query_gradient_call(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dq: Tensor,
    norms: Tensor | None,
    problem: Problem,
    kernels: Kernels,
    schedule: Schedule,
) -> tuple[Call, Tensor | None]:
    """The call, and with a bias the partial sums of its gradient that it fills in: fp32 [N * H, tiles]."""
    large = {"grad": grad, "query": query, "key": key, "value": value, "dq": dq}
    arguments = _arguments(large, problem, kernels, schedule) | {"norms": norms, "HAS_NORMS": norms is not None}
    tiles = _programs(
        query.shape[2], problem.max_query_length, schedule.block_queries, problem.max_key_length, arguments
    )
    partial = None
    if problem.bias_NH is not None:
        partial = torch.zeros(tiles["all_heads"], tiles["num_tiles"], dtype=torch.float32, device=query.device)
    return _call(kernels.query_gradient, arguments | tiles | {"partial_dbias": partial}, schedule), partial


def key_gradient_calls(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dk: Tensor,
    dv: Tensor,
    norms: Tensor | None,
    problem: Problem,
    kernels: Kernels,
    schedule: Schedule,
) -> list[Call]:
    """dk, dv: what the calls fill in, dV first if there are two."""
    large = {"grad": grad, "query": query, "key": key, "value": value, "dk": dk, "dv": dv}
    arguments = _arguments(large, problem, kernels, schedule) | {"norms": norms, "HAS_NORMS": norms is not None}
    per_group = query.shape[2] // key.shape[2]
    others = problem.max_query_length * per_group
    tiles = _programs(key.shape[2], problem.max_key_length, schedule.block_keys, others, arguments)
    passes = [(False, True), (True, False)] if schedule.num_passes == 2 else [(True, True)]
    return [
        _call(kernels.key_gradient, arguments | tiles | {"HAS_DK": has_dk, "HAS_DV": has_dv}, schedule)
        for has_dk, has_dv in passes
    ]


def norms_call(
    x: Tensor, norms: Tensor, side: Literal["queries", "keys"], heads_per_group: int, problem: Problem, kernels: Kernels
) -> Call:
    """x: dO, or V. norms: the column to fill in."""
    num_tiles = triton.cdiv(problem.max_query_length if side == "queries" else problem.max_key_length, _ROWS_PER_NORM)
    unit = unit_of(x)
    main, rest = split(x.shape[3])
    arguments = {
        "x": x,
        "norms": norms,
        "table": None if problem.table_N6 is None else problem.table_N6.contiguous(),
        **_strides({"x": x}, unit),
        "num_heads": x.shape[2],
        "num_positions": x.shape[1],
        "num_tiles": num_tiles,
        "WIDTH": x.shape[3],
        "W0": main,
        "W1": rest,
        "BLOCK": _ROWS_PER_NORM,
        "UNIT": unit,
        "HEADS_PER_GROUP": heads_per_group,
        "TABLE_ENTRY": 1 if side == "queries" else 3,
        "HAS_TABLE": problem.table_N6 is not None,
        "INTERPRETED": kernels.interpreted,
    }
    num_programs = _num_segments(x, problem) * x.shape[2] * num_tiles
    return Call(
        kernel=kernels.largest_norms, num_programs=num_programs, arguments=arguments, options={"num_warps": 4, **_FUSED}
    )


def _call(kernel: Any, arguments: dict[str, Any], schedule: Schedule) -> Call:
    options = {"num_warps": schedule.num_warps, "num_stages": schedule.num_stages, **_FUSED}
    num_programs = arguments["all_heads"] * arguments["num_tiles"]
    return Call(kernel=kernel, num_programs=num_programs, arguments=arguments, options=options)


def _arguments(large: Mapping[str, Tensor], problem: Problem, kernels: Kernels, schedule: Schedule) -> dict[str, Any]:
    """What every kernel is given, but for the number of its programs."""
    query, key, value = large["query"], large["key"], large["value"]
    unit = unit_of(*large.values())
    head_dim, value_dim = query.shape[3], value.shape[3]
    d0, d1 = split(head_dim)
    e0, e1 = split(value_dim)
    sigmoid = _sigmoid(problem, query.dtype)
    return {
        **large,
        **_strides(large, unit),
        **_small(problem),
        "num_heads": query.shape[2],
        "num_queries": query.shape[1],
        "num_keys": key.shape[1],
        "shift": problem.shift,
        "left": min(problem.left, _FARTHEST),
        "right": min(problem.right, _FARTHEST),
        "scale": problem.scale,
        "bias_value": problem.bias_value,
        "D": head_dim,
        "E": value_dim,
        "D0": d0,
        "D1": d1,
        "E0": e0,
        "E1": e1,
        "BLOCK_QUERIES": schedule.block_queries,
        "BLOCK_KEYS": schedule.block_keys,
        "UNIT": unit,
        "HEADS_PER_GROUP": query.shape[2] // max(key.shape[2], 1),
        "HAS_LEFT": problem.left != UNBOUNDED,
        "HAS_RIGHT": problem.right != UNBOUNDED,
        "SIGMOID": sigmoid,
        "LOGIT": _LOGIT[sigmoid],
        "WEIGHT_SCALE": FP16_WEIGHT_SCALE if query.dtype == torch.float16 else 1.0,
        "INTERPRETED": kernels.interpreted,
    }


def _sigmoid(problem: Problem, dtype: torch.dtype) -> str:
    if problem.sigmoid == "tanh":
        return "tanh"
    return "exact" if dtype == torch.float32 else "batched"  # 2^-30 is not negligible beside fp32


def _small(problem: Problem) -> dict[str, Any]:
    """The table, the bias and the slopes. Strides of the latter may be 0."""
    bias, slopes, table = problem.bias_NH, problem.slopes_NH, problem.table_N6
    return {
        "table": None if table is None else table.contiguous(),
        "bias": bias,
        "slopes": slopes,
        "bias_row": 0 if bias is None else bias.stride(0),
        "bias_head": 0 if bias is None else bias.stride(1),
        "slope_row": 0 if slopes is None else slopes.stride(0),
        "slope_head": 0 if slopes is None else slopes.stride(1),
        "HAS_TABLE": table is not None,
        "HAS_BIAS": bias is not None,
        "HAS_SLOPES": slopes is not None,
    }


def _programs(
    num_heads: int, own_length: int, block: int, others_length: int, arguments: Mapping[str, Any]
) -> dict[str, int]:
    """How many heads of all segments and tiles there are, and the heads whose other side fits in the cache.

    others_length: positions that the programs of a head of keys walk along.
    """
    key, value = arguments["key"], arguments["value"]
    num_segments = key.shape[0] if arguments["table"] is None else arguments["table"].shape[0]
    all_heads = num_segments * num_heads
    bytes_of_group = others_length * (key.shape[3] + value.shape[3]) * key.element_size()
    groups_at_once = max(_BYTES_IN_CACHE // max(bytes_of_group, 1), 1)
    heads_at_once = min(groups_at_once * (num_heads // max(key.shape[2], 1)), all_heads)
    return {
        "all_heads": all_heads,
        "num_tiles": triton.cdiv(own_length, block),
        "heads_at_once": max(heads_at_once, 1),
    }


def split(width: int) -> tuple[int, int]:
    """A power of two and the power of two, or 0, that holds the rest: 80 = 64 + 16. Neither is below 16, the least that
    a product takes.
    """
    main = max(16, 1 << (width.bit_length() - 1))
    if width <= main:
        return main, 0
    rest = max(16, triton.next_power_of_2(width - main))
    return (main, rest) if rest < main else (2 * main, 0)


def unit_of(*tensors: Tensor) -> int:
    """How many elements strides are counted in: 16 bytes of them where all are multiples, so that the compiler knows it
    and moves 16 bytes at once whatever the strides are, else 1.
    """
    unit = 16 // tensors[0].element_size()
    strides = (stride for x in tensors for size, stride in zip(x.shape[:3], x.stride()[:3], strict=True) if size > 1)
    return unit if all(stride % unit == 0 for stride in strides) else 1


def _strides(tensors: Mapping[str, Tensor], unit: int) -> dict[str, int]:
    """{name}_row, {name}_position, {name}_head, in units; 0 where there is one only."""
    return {
        f"{name}_{axis}": x.stride(at) // unit if x.shape[at] > 1 else 0
        for name, x in tensors.items()
        for at, axis in enumerate(("row", "position", "head"))
    }


def _num_segments(x: Tensor, problem: Problem) -> int:
    return x.shape[0] if problem.table_N6 is None else problem.table_N6.shape[0]


def _with_dense_rows(x: Tensor) -> Tensor:
    """x, copied if its last dimension is not contiguous, which `out.sum().backward()` does to dO."""
    return x if x.stride(3) == 1 or x.shape[3] == 1 else x.contiguous()


def _allocated(x: Tensor, problem: Problem) -> Tensor:
    """x, zeroed if there are segments: only their table, on the device, knows whether they leave gaps."""
    return x if problem.table_N6 is None else x.zero_()


def _on(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Triton launches on the current device."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
