"""Rounds make one time, times make ratios, ratios make verdicts. All numbers here are made up."""

import pytest
from made_up_results import GOAL, made_up_document, other, timed

from triptych.kernels.flash_sigmoid.bench.summary import ceiling, goals, timings


def verdicts(*records):
    return {goal.what: (goal.verdict, goal.value, goal.contender) for goal in goals(made_up_document(list(records)))}


def test_a_time_is_the_median_over_rounds():
    (timing,) = timings(made_up_document([timed("triton", ms, round=i) for i, ms in enumerate((4.0, 9.0, 5.0))]))
    assert (timing.milliseconds, timing.spread) == (5.0, 9.0 / 4.0)


def test_throughput_is_operations_over_time():
    (timing,) = timings(made_up_document([timed("triton", 2.0)]))
    assert timing.tflops == pytest.approx(4 * 16 * 16384**2 * 128 / 2e-3 / 1e12)


def test_a_ratio_is_of_rounds_in_which_both_were_measured():
    ours = [timed("triton", ms, round=i) for i, ms in enumerate((1.0, 10.0, 2.0))]
    theirs = [timed("sdpa flash", ms, round=i) for i, ms in enumerate((2.0, 20.0))]
    first, second = timings(made_up_document(ours + theirs))
    assert first.ratio(second) == 2.0


@pytest.mark.parametrize(("peer_ms", "verdict"), [(1.18, "pass"), (1.16, "fail")])
def test_forward_against_flash(peer_ms, verdict):
    assert verdicts(timed("triton", 1.0), timed("sdpa flash", peer_ms))["forward / sdpa flash"][0] == verdict


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize(("peer_ms", "verdict"), [(1.01, "pass"), (0.99, "fail")])
def test_against_cudnn(direction, peer_ms, verdict):
    records = [timed("triton", 1.0, direction=direction), timed("sdpa cudnn", peer_ms, direction=direction)]
    assert verdicts(*records)[f"{direction} / sdpa cudnn"][0] == verdict


@pytest.mark.parametrize(("share", "verdict"), [(0.76, "pass"), (0.74, "fail")])
def test_against_the_matrix_product(share, verdict):
    milliseconds = GOAL.operations("forward") / (800.0 * share) / 1e9
    found = verdicts(timed("triton", milliseconds), other("ceiling", {"tflops": 800.0}))
    assert found["forward / matrix product"][0] == verdict


def test_the_best_of_ours_counts_and_is_named():
    found = verdicts(timed("triton", 2.0), timed("gluon", 1.0), timed("sdpa flash", 2.0))
    assert found["forward / sdpa flash"] == ("pass", 2.0, "gluon")


def test_tanh_does_not_count():
    found = verdicts(timed("triton", 2.0), timed("triton tanh", 1.0), timed("sdpa flash", 2.0))
    assert found["forward / sdpa flash"] == ("fail", 1.0, "triton")


def test_other_shapes_do_not_count():
    from made_up_results import SHORT

    found = verdicts(timed("triton", 1.0, shape=SHORT), timed("sdpa flash", 2.0, shape=SHORT))
    assert {verdict for verdict, _, _ in found.values()} == {"not measured"}


def test_a_missing_peer_leaves_a_goal_unmeasured():
    assert verdicts(timed("triton", 1.0))["backward / sdpa cudnn"] == ("not measured", None, None)


def test_the_ceiling_is_the_fastest_product():
    products = [other("ceiling", {"tflops": tflops}) for tflops in (700.0, 750.0)]
    assert ceiling(made_up_document(products)) == 750.0
