"""`forward` and `backward` as the operator wants them, and `refusal`: which calls the Hopper kernel does not take.

Shape legend: B rows, S and T positions of queries and keys, H query heads, G key-value heads, D head dimension.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from triton.experimental.gluon.language import NVMMASharedLayout
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from triptych.kernels.flash_sigmoid.device import launch as device
from triptych.kernels.flash_sigmoid.hopper.forward import forward_kernel
from triptych.kernels.flash_sigmoid.hopper.turns import M
from triptych.kernels.flash_sigmoid.problem import Problem, output_like

QUERIES_PER_GROUP = M.value
_QUERIES_PER_TURN = 2 * QUERIES_PER_GROUP
_BYTES_IN_CACHE = 24 << 20
"""Our choice, not measured: half of an H100's L2 cache for the keys and values that are worked on at once."""
_FARTHEST = 1 << 30
"""No window is wider, and sums of three such numbers stay in int32."""
_SWIZZLE_BYTES = 128
_ALIGNMENT_BYTES = 16
"""Of addresses and strides that the copy engine takes."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Tile:
    """keys: of one tile; stages: tiles in a ring. registers: of each computing thread, of 504 that two of them and a
    copying one share.
    """

    keys: int
    stages: int
    registers: int = 240


TILES: Mapping[int, Tile] = {64: Tile(keys=128, stages=4), 128: Tile(keys=128, stages=2), 256: Tile(keys=64, stages=2)}
"""By head dimension: what compiles without spilling in a loop, and fits the shared memory. Not measured."""


def refusal(query_BSHD: Tensor, key_BTGD: Tensor, value_BTGD: Tensor, problem: Problem) -> str | None:
    """Why this kernel cannot run the call, or None; a clause that follows "cannot run here: "."""
    if query_BSHD.dtype not in (torch.float16, torch.bfloat16):
        return f"its products take float16 or bfloat16, and the tensors are {query_BSHD.dtype}"
    head_dims = query_BSHD.shape[3], value_BTGD.shape[3]
    if head_dims[0] != head_dims[1] or head_dims[0] not in TILES:
        return f"its head dimensions are {', '.join(map(str, TILES))}, and these are {head_dims[0]} and {head_dims[1]}"
    if problem.table_N6 is not None:
        return "it takes whole rows, and the call has segments"
    if problem.slopes_NH is not None:
        return "it has no ALiBi, and the call has slopes"
    for name, x in (("query", query_BSHD), ("key", key_BTGD), ("value", value_BTGD)):
        reason = _copy_refusal(x)
        if reason:
            return f"its copies need {reason} of {name}"
    return None


def forward(query_BSHD: Tensor, key_BTGD: Tensor, value_BTGD: Tensor, problem: Problem) -> Tensor:
    """O [B, S, H, D], as `output_like` lays it out. ValueError: `refusal` has a reason, or there is no Hopper GPU."""
    reason = refusal(query_BSHD, key_BTGD, value_BTGD, problem)
    if reason is None and not (query_BSHD.is_cuda and torch.cuda.get_device_capability(query_BSHD.device)[0] == 9):
        reason = f"it is written for compute capability 9.0, and the tensors are on {query_BSHD.device}"
    if reason is not None:
        raise ValueError(f"gluon cannot run here: {reason}; take kernel='triton'")
    out_BSHD = output_like(query_BSHD, value_BTGD.shape[3])
    if not key_BTGD.shape[1]:
        return out_BSHD.zero_()
    if out_BSHD.numel():
        with torch.cuda.device(query_BSHD.device):
            num_programs = torch.cuda.get_device_properties(query_BSHD.device).multi_processor_count
            arguments = forward_arguments(query_BSHD, key_BTGD, value_BTGD, out_BSHD, problem)
            forward_kernel[(min(num_programs, arguments["num_turns"]),)](**arguments, **OPTIONS)
    return out_BSHD


def backward(
    grad_BSHD: Tensor, query_BSHD: Tensor, key_BTGD: Tensor, value_BTGD: Tensor, problem: Problem
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The Triton kernels': there is no backward pass in Gluon yet."""
    return device.backward(grad_BSHD, query_BSHD, key_BTGD, value_BTGD, problem)


OPTIONS: Mapping[str, Any] = {"num_warps": 4}
"""Of the launch: warps of the first group; the kernel adds those of the others."""


def forward_arguments(query: Tensor, key: Tensor, value: Tensor, out: Tensor, problem: Problem) -> dict[str, Any]:
    """What `forward_kernel` is called with, by name. No tensor is empty."""
    rows, num_queries, num_heads, head_dim = query.shape
    num_keys, num_groups = key.shape[1:3]
    tile = TILES[head_dim]
    num_blocks = -(-num_queries // _QUERIES_PER_TURN)
    heads_per_group = num_heads // num_groups
    groups_in_cache = max(_BYTES_IN_CACHE // (2 * num_keys * head_dim * key.element_size()), 1)
    per_logit = 0.5 if problem.sigmoid == "tanh" else -math.log2(math.e)
    bias_NH = problem.bias_NH
    return {
        "query_desc": _descriptor(query, QUERIES_PER_GROUP),
        "key_desc": _descriptor(key, tile.keys),
        "value_desc": _descriptor(value, tile.keys),
        "out_ptr": out,
        "out_row": out.stride(0),
        "out_position": out.stride(1),
        "out_head": out.stride(2),
        "bias_ptr": bias_NH,
        "bias_row": 0 if bias_NH is None else bias_NH.stride(0),
        "bias_head": 0 if bias_NH is None else bias_NH.stride(1),
        "factor": problem.scale * per_logit,
        "offset": problem.bias_value * per_logit,
        "num_queries": num_queries,
        "num_keys": num_keys,
        "num_heads": num_heads,
        "heads_per_group": heads_per_group,
        "num_turns": num_blocks * rows * num_heads,
        "num_blocks": num_blocks,
        "num_row_heads": rows * num_heads,
        "heads_at_once": min(groups_in_cache * heads_per_group, rows * num_heads),
        "left": min(problem.left, _FARTHEST),
        "right": min(problem.right, _FARTHEST),
        "shift": problem.shift,
        "STAGES": tile.stages,
        "SIGMOID": problem.sigmoid,
        "HAS_BIAS": bias_NH is not None,
        "HAS_LEFT": problem.left >= 0,
        "HAS_RIGHT": problem.right >= 0,
        "REGISTERS": tile.registers,
    }


def shared_layout(element_bits: int) -> NVMMASharedLayout:
    """How a tile lies in shared memory, so that copies and products find it without conflicts of banks."""
    return NVMMASharedLayout(swizzle_byte_width=_SWIZZLE_BYTES, element_bitwidth=element_bits, rank=4)


def _descriptor(x: Tensor, positions: int) -> TensorDescriptor:
    """Of [rows, positions, heads, head dimension], in blocks of so many positions of one row and head."""
    strides = [x.shape[3] if size == 1 else stride for size, stride in zip(x.shape[:3], x.stride()[:3], strict=True)]
    block = [1, positions, 1, x.shape[3]]
    return TensorDescriptor(x, list(x.shape), [*strides, 1], block, shared_layout(8 * x.element_size()))


def _copy_refusal(x: Tensor) -> str | None:
    """What the copy engine lacks of a tensor, whose storage is aligned; strides where there is one do not matter."""
    if x.storage_offset() * x.element_size() % _ALIGNMENT_BYTES:
        return f"an offset divisible by {_ALIGNMENT_BYTES} bytes"
    strides = [stride for size, stride in zip(x.shape[:3], x.stride()[:3], strict=True) if size > 1]
    if x.stride(3) != 1 or any(stride <= 0 or stride * x.element_size() % _ALIGNMENT_BYTES for stride in strides):
        return f"strides that are not 0 and divisible by {_ALIGNMENT_BYTES} bytes, the last one 1,"
    return None
