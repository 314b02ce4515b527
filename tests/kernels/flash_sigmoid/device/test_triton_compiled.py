"""The schedules that are shipped, compiled for GPUs that are not there: they fit, and the code is what it should be."""

from dataclasses import replace

import pytest
import torch

triton = pytest.importorskip("triton")

from compiled_calls import call_of, resources_of  # noqa: E402

from triptych.kernels.compilation import SHARED_LIMIT_BYTES  # noqa: E402
from triptych.kernels.flash_sigmoid.device.schedules import family, schedule_for  # noqa: E402

pytestmark = pytest.mark.skipif(
    triton.knobs.runtime.interpret, reason="TRITON_INTERPRET is set, so nothing is compiled"
)

DIRECTIONS = ("forward", "query_gradient", "key_gradient")
PRODUCT = {80: "HMMA", 86: "HMMA", 90: "HGMMA", 100: "UTCHMMA"}
BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32

QUICK = [
    *[(90, direction, head_dim, BF16) for direction in DIRECTIONS for head_dim in (64, 128)],
    (80, "forward", 128, BF16),
    (100, "key_gradient", 128, BF16),
    (90, "forward", 80, FP16),
    (90, "key_gradient", 64, FP32),
]
EVERY = [
    (arch, direction, head_dim, dtype)
    for arch in PRODUCT
    for direction in DIRECTIONS
    for head_dim in (64, 72, 80, 96, 128, 192, 256)
    for dtype in (BF16, FP16, FP32)
    if (dtype == FP32) <= (arch == 90) and (arch, direction, head_dim, dtype) not in QUICK
]


def loops_of(resources, opcode):
    """Bodies of the innermost loops that hold an instruction of that name."""
    return [body for body in resources.loops() if any(one.opcode.startswith(opcode) for one in body)]


def count(body, opcode):
    return sum(one.opcode.startswith(opcode) for one in body)


def assert_sound(arch, direction, head_dim, dtype, **kind):
    """A causal call: masked tiles, and full ones, whose loop is the shortest. Registers may be saved around it."""
    resources = resources_of(call_of(direction, head_dim, dtype, arch, **{"right": 0, **kind}), arch)
    assert resources.shared_bytes <= SHARED_LIMIT_BYTES[arch]
    assert resources.stack_bytes <= 320
    body = min(loops_of(resources, "MUFU.EX2"), key=len)
    assert not [one.text for one in body if one.opcode.startswith(("LDL", "STL"))]
    if dtype != FP32:
        assert count(body, PRODUCT[arch])
        assert count(body, "MUFU.EX2") == 4 * count(body, "MUFU.RCP")
    if arch == 90:  # ptxas lets each product wait for the one before where it cannot prove them independent
        assert 2 * count(body, "WARPGROUP.DEPBAR") <= count(body, "HGMMA")


@pytest.mark.parametrize(("arch", "direction", "head_dim", "dtype"), QUICK)
def test_schedules_fit_and_use_the_tensor_cores(arch, direction, head_dim, dtype):
    assert_sound(arch, direction, head_dim, dtype)


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "direction", "head_dim", "dtype"), EVERY)
def test_every_schedule_fits_and_uses_the_tensor_cores(arch, direction, head_dim, dtype):
    assert_sound(arch, direction, head_dim, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("head_dims", [(192, 128), (64, 128)])
@pytest.mark.parametrize("arch", PRODUCT)
def test_keys_and_values_of_two_widths(arch, head_dims, direction):
    assert_sound(arch, direction, head_dims[0], BF16, value_dim=head_dims[1])


@pytest.mark.slow
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize(
    "kind",
    [
        {"left": 100, "right": 100},
        {"right": -1},
        {"segments": True, "right": -1},
        {"bias": True, "heads_per_group": 4},
        {"slopes": True, "right": -1},
    ],
    ids=str,
)
def test_other_masks_and_biases(kind, head_dim, direction):
    assert_sound(90, direction, head_dim, BF16, **kind)


@pytest.mark.parametrize("arch", [80, 90])
def test_tanh_is_one_special_function(arch):
    resources = resources_of(call_of("forward", 128, BF16, arch, sigmoid="tanh"), arch)
    body = min(loops_of(resources, "MUFU"), key=len)
    assert count(body, "MUFU.TANH") == count(body, "MUFU") > 0
    assert count(body, PRODUCT[arch])


def test_scores_run_ahead_of_weights():
    """Products of the next tile are issued among the special functions of this one, in the loop of full tiles."""
    among = {}
    for ahead in (0, 1):
        schedule = replace(schedule_for("forward", 128, 2, 90), scores_ahead=ahead)
        resources = resources_of(call_of("forward", 128, BF16, 90, schedule=schedule, right=0), 90)
        among[ahead] = max(products_among_special_functions(body) for body in loops_of(resources, "MUFU.EX2"))
    assert among[0] == 0
    assert among[1] >= 4


def products_among_special_functions(body):
    names = [one.opcode for one in body]
    special = [at for at, name in enumerate(names) if name.startswith("MUFU")]
    return sum(name.startswith("HGMMA") for name in names[special[0] : special[-1]])


@pytest.mark.parametrize(
    ("capability", "arch"), [((8, 0), 80), ((8, 6), 86), ((8, 9), 86), ((9, 0), 90), ((10, 0), 100), ((12, 0), 86)]
)
def test_capabilities_have_rows(capability, arch):
    assert family(*capability) == arch


def test_a_head_that_is_too_large_is_refused():
    with pytest.raises(ValueError, match="head dimension of 257 is beyond the kernels' 256"):
        schedule_for("forward", 257, 2, 90)
