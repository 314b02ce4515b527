"""Shares of a step by kind of kernel, and its communication, from made-up traces."""

import pytest

from triptych.launch.profile.measure.communication import collective_of, communication, part_seconds
from triptych.launch.profile.measure.trace import MARK, STEP, breakdown, kind_of, step_of


def event(name, category, start, duration, thread=1):
    return {"ph": "X", "name": name, "cat": category, "ts": start, "dur": duration, "tid": thread}


STEP_EVENT = event(STEP, "user_annotation", 100, 100)


def taken(*events):
    return breakdown(step_of([STEP_EVENT, *events]))


def mark(part, moment):
    return event(MARK + part, "user_annotation", moment, 0)


def kernel(name, start, duration, correlation, launched, thread=7):
    """A kernel, and the call that asked for it."""
    args = {"args": {"correlation": correlation}}
    return [
        event(name, "kernel", start, duration, thread=thread) | args,
        event("cudaLaunchKernel", "cuda_runtime", launched, 1) | args,
    ]


def test_kernels_are_counted_where_there_are_any():
    found = taken(
        event("aten::mm", "cpu_op", 101, 90),
        event("nvjet_tst_256x128", "kernel", 110, 30, thread=7),
        event("Memcpy HtoD", "gpu_memcpy", 150, 10, thread=7),
        event("vectorized_elementwise_kernel", "kernel", 170, 5, thread=7),
    )
    assert found.shares == pytest.approx(
        {"attention": 0, "communication": 0, "matmul": 0.3, "copies": 0.1, "elementwise": 0.05, "idle": 0.55}
    )
    assert found.launches == 3


def test_kernels_side_by_side_leave_no_idle_time_twice():
    spans = [event("ncclDevKernel_AllReduce", "kernel", 100, 60, thread=8), event("gemm", "kernel", 120, 60, thread=7)]
    found = taken(*spans)
    assert (found.shares["communication"], found.shares["matmul"]) == (0.6, 0.6)
    assert found.shares["idle"] == pytest.approx(0.2)


def test_an_operator_that_calls_another_has_only_its_own_time():
    found = taken(
        event("aten::linear", "cpu_op", 110, 50),
        event("aten::t", "cpu_op", 111, 4),
        event("aten::addmm", "cpu_op", 120, 30),
        event("aten::add", "cpu_op", 170, 10),
    )
    assert found.top == [
        ("aten::addmm", pytest.approx(30e-6), 1),
        ("aten::linear", pytest.approx(16e-6), 1),
        ("aten::add", pytest.approx(10e-6), 1),
        ("aten::t", pytest.approx(4e-6), 1),
    ]
    assert found.shares["idle"] == pytest.approx(0.4)


def test_what_lies_outside_the_step_is_left_out():
    found = taken(event("gemm", "kernel", 10, 20), event("gemm", "kernel", 250, 20))
    assert found.launches == 0 and found.shares["idle"] == 1


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("void pytorch_flash::flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel<...cutlass::bfloat16_t...>", "attention"),
        ("fmha_cutlassF_bf16_aligned_64x64_rf_sm80", "attention"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma", "attention"),
        ("nvjet_tst_128x256_64x4_2x1_v_bz_coopA_TNT", "matmul"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n", "matmul"),
        ("ncclDevKernel_ReduceScatter_Sum_bf16_RING_LL", "communication"),
        ("void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float...", "elementwise"),
        ("Memset (Device)", "copies"),
    ],
)
def test_kinds_of_kernels(name, kind):
    assert kind_of(name) == kind


def test_gloo_runs_beside_the_operators_and_what_it_calls_is_its_own():
    found = taken(
        event("c10d::allreduce_", "cpu_op", 100, 2),
        event("aten::mm", "cpu_op", 110, 20),
        event("gloo:all_reduce", "user_annotation", 102, 40, thread=2),
        event("aten::copy_", "cpu_op", 104, 30, thread=2),
    )
    assert found.shares["communication"] == pytest.approx(0.42)
    assert (found.shares["matmul"], found.shares["copies"]) == (pytest.approx(0.2), 0)


def test_a_collective_is_exposed_where_nothing_is_computed_beside_it():
    found = communication(
        step_of(
            [
                STEP_EVENT,
                mark("backward", 100),
                mark("optimizer", 150),
                event("aten::mm", "cpu_op", 110, 20),
                event("autograd::engine::evaluate_function: Mm", "cpu_op", 100, 45),
                event("gloo:all_reduce", "user_annotation", 105, 35, thread=2),
                event("gloo:all_gather", "user_annotation", 160, 20, thread=3),
            ]
        )
    )
    assert found.kinds == pytest.approx({"all-reduce": 35e-6, "all-gather": 20e-6})
    assert found.exposed == pytest.approx((15 + 20) * 1e-6)
    assert found.exposed_in == pytest.approx(
        {"backward": 15 / 50, "optimizer": 20 / 50}
        | {part: found.exposed_in[part] for part in found.exposed_in if part not in ("backward", "optimizer")}
    )


def test_collectives_side_by_side_are_exposed_once():
    spans = [event("gloo:send", "user_annotation", 110, 20, thread=n) for n in (2, 3)]
    found = communication(step_of([STEP_EVENT, *spans]))
    assert (found.total, found.exposed) == (pytest.approx(40e-6), pytest.approx(20e-6))


def test_a_kernel_belongs_to_the_part_that_asked_for_it():
    found = communication(
        step_of(
            [
                STEP_EVENT,
                mark("backward", 100),
                mark("optimizer", 140),
                *kernel("ncclDevKernel_ReduceScatter_Sum_f32", 150, 30, correlation=1, launched=120),
                *kernel("gemm", 160, 10, correlation=2, launched=130, thread=8),
            ]
        )
    )
    assert found.kinds == pytest.approx({"reduce-scatter": 30e-6})
    assert found.exposed_in["backward"] == pytest.approx(20 / 40) and found.exposed_in["optimizer"] == 0


def test_a_part_that_the_host_left_early_lasts_as_long_as_its_kernels():
    found = communication(
        step_of(
            [
                STEP_EVENT,
                mark("forward", 100),
                mark("backward", 110),
                mark("other", 180),
                *kernel("gemm", 105, 50, correlation=1, launched=101),
                *kernel("ncclDevKernel_AllReduce_Sum_f32", 155, 20, correlation=2, launched=105),
                *kernel("gemm", 175, 20, correlation=3, launched=115),
            ]
        )
    )
    assert found.exposed_in["forward"] == pytest.approx(20 / 70)


def test_parts_last_from_mark_to_mark():
    found = part_seconds(step_of([STEP_EVENT, mark("data", 110), mark("forward", 130), mark("other", 190)]))
    assert {part: seconds for part, seconds in found.items() if seconds} == pytest.approx(
        {"other": 20e-6, "data": 20e-6, "forward": 60e-6}
    )


@pytest.mark.parametrize(
    ("name", "collective"),
    [
        ("ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)", "all-reduce"),
        ("ncclDevKernel_ReduceScatter_Sum_bf16_RING_LL", "reduce-scatter"),
        ("ncclDevKernel_AllGather_RING_LL", "all-gather"),
        ("ncclDevKernel_SendRecv", "send and receive"),
        ("gloo:broadcast", "broadcast"),
        ("ncclDevKernel_Reduce_Sum", "reduce"),
        ("gloo:barrier", "other"),
    ],
)
def test_collectives_by_name(name, collective):
    assert collective_of(name) == collective
