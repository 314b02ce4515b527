"""The launches of a shape, compiled for a GPU that is not there: tensors are those of torch's meta device."""

import torch

from triptych.kernels.compilation import compile_for
from triptych.kernels.flash_sigmoid.device.launch import Kernels, forward_call, key_gradient_calls, query_gradient_call
from triptych.kernels.flash_sigmoid.device.schedules import schedule_for
from triptych.kernels.flash_sigmoid.problem import Problem

POINTERS = {
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.float32: "*fp32",
    torch.int32: "*i32",
}
LENGTH = 4096


def call_of(
    direction, head_dim, dtype, arch, *, value_dim=None, schedule=None, right=-1, left=-1, segments=False, bias=False,
    slopes=False, heads_per_group=1, sigmoid="accurate",
):  # fmt: skip
    """The launch of a direction, which nothing can run."""
    query, key, value, grad = (
        torch.empty(2, LENGTH, heads, width, dtype=dtype, device="meta")
        for heads, width in (
            (4, head_dim),
            (4 // heads_per_group, head_dim),
            (4 // heads_per_group, value_dim or head_dim),
            (4, value_dim or head_dim),
        )
    )
    problem = Problem(
        scale=0.1,
        bias_value=-8.0,
        left=left,
        right=right,
        shift=0,
        max_query_length=LENGTH,
        max_key_length=LENGTH,
        sigmoid=sigmoid,
        bias_NH=torch.empty(2, 4, device="meta") if bias else None,
        slopes_NH=torch.empty(2, 4, device="meta") if slopes else None,
        table_N6=torch.empty(2, 6, dtype=torch.int32, device="meta") if segments else None,
    )
    kernels = Kernels()
    schedule = schedule or schedule_for(direction, max(head_dim, value.shape[3]), dtype.itemsize, arch)
    norms = torch.empty(8, 2, device="meta") if dtype == torch.float16 else None
    if direction == "forward":
        return forward_call(query, key, value, grad, problem, kernels, schedule)
    if direction == "query_gradient":
        return query_gradient_call(grad, query, key, value, query, norms, problem, kernels, schedule)[0]
    return key_gradient_calls(grad, query, key, value, key, value, norms, problem, kernels, schedule)[-1]


def resources_of(call, arch):
    """What the call's kernel needs, once compiled as a launch would compile it."""
    signature, constants = {}, {}
    for name in call.kernel.arg_names:
        value = call.arguments[name]
        if isinstance(value, torch.Tensor):
            signature[name] = POINTERS[value.dtype]
        elif value is None or name.isupper() or name[1:].isdigit():
            constants[name] = value
        else:
            signature[name] = "fp32" if isinstance(value, float) else "i32"
    options = dict(call.options)
    warps_and_stages = {name: options.pop(name) for name in ("num_warps", "num_stages")}
    return compile_for(call.kernel, arch, signature, constants, **warps_and_stages, options=options)
