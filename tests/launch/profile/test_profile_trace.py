"""Shares of a step by kind of kernel, from made-up traces."""

import pytest

from triptych.launch.profile.measure.trace import STEP, breakdown, kind_of


def event(name, category, start, duration, thread=1):
    return {"ph": "X", "name": name, "cat": category, "ts": start, "dur": duration, "tid": thread}


STEP_EVENT = event(STEP, "user_annotation", 100, 100)


def test_kernels_are_counted_where_there_are_any():
    found = breakdown(
        [
            STEP_EVENT,
            event("aten::mm", "cpu_op", 101, 90),
            event("nvjet_tst_256x128", "kernel", 110, 30, thread=7),
            event("Memcpy HtoD", "gpu_memcpy", 150, 10, thread=7),
            event("vectorized_elementwise_kernel", "kernel", 170, 5, thread=7),
        ]
    )
    assert found.shares == pytest.approx(
        {"attention": 0, "communication": 0, "matmul": 0.3, "copies": 0.1, "elementwise": 0.05, "idle": 0.55}
    )
    assert found.launches == 3


def test_kernels_side_by_side_leave_no_idle_time_twice():
    spans = [event("ncclDevKernel_AllReduce", "kernel", 100, 60, thread=8), event("gemm", "kernel", 120, 60, thread=7)]
    found = breakdown([STEP_EVENT, *spans])
    assert (found.shares["communication"], found.shares["matmul"]) == (0.6, 0.6)
    assert found.shares["idle"] == pytest.approx(0.2)


def test_an_operator_that_calls_another_has_only_its_own_time():
    found = breakdown(
        [
            STEP_EVENT,
            event("aten::linear", "cpu_op", 110, 50),
            event("aten::t", "cpu_op", 111, 4),
            event("aten::addmm", "cpu_op", 120, 30),
            event("aten::add", "cpu_op", 170, 10),
        ]
    )
    assert found.top == [
        ("aten::addmm", pytest.approx(30e-6), 1),
        ("aten::linear", pytest.approx(16e-6), 1),
        ("aten::add", pytest.approx(10e-6), 1),
        ("aten::t", pytest.approx(4e-6), 1),
    ]
    assert found.shares["idle"] == pytest.approx(0.4)


def test_what_lies_outside_the_step_is_left_out():
    found = breakdown([STEP_EVENT, event("gemm", "kernel", 10, 20), event("gemm", "kernel", 250, 20)])
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
