import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.launch.report.data import Curve
from triptych.launch.report.numbers import nice_ticks
from triptych.launch.report.page.charts import HEIGHT, MAX_POINTS, WIDTH, Series, line_chart, smoothed, thinned

any_floats = st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), max_size=30)


@given(values=any_floats)
def test_any_numbers_are_drawn_within_the_frame(values):
    drawing = line_chart([Series(xs=np.arange(len(values)), ys=np.array(values))], title="t", x_label="x")
    points = re.findall(r"(-?[\d.]+|nan|inf) (-?[\d.]+|nan|inf)(?=[L\"])", drawing)
    assert all(0 <= float(x) <= WIDTH and 0 <= float(y) <= HEIGHT for x, y in points)
    assert bool(drawing) == bool(np.isfinite(np.array(values, float)).any())


def test_labels_are_escaped():
    series = [Series(xs=np.arange(2), ys=np.arange(2), style="dots", label="<b>")]
    drawing = line_chart(series, title="<script>", x_label="a & b")
    assert "<script>" not in drawing
    assert "<b>" not in drawing
    assert "a &amp; b" in drawing


def test_a_long_curve_is_thinned_and_keeps_its_ends():
    xs, ys = thinned(np.arange(10_000.0), np.arange(10_000.0) * 2)
    assert len(xs) == MAX_POINTS
    assert (xs[0], xs[-1], ys[0], ys[-1]) == (0, 9999, 0, 19998)


def test_one_peak_does_not_flatten_the_rest():
    ys = np.ones(1000)
    ys[500:] = 2.0
    ys[0] = 1e6
    drawing = line_chart([Series(xs=np.arange(1000), ys=ys)], title="t", x_label="x")
    assert "1M" not in drawing


def test_smoothing_keeps_a_constant_and_drops_what_is_not_finite():
    curve = smoothed(Curve(tokens=np.arange(200), values=np.where(np.arange(200) == 50, np.nan, 3.0)))
    np.testing.assert_allclose(curve.values, np.full(199, 3.0), rtol=1e-12)


def test_smoothing_does_not_lag():
    line = np.arange(1000.0)
    np.testing.assert_allclose(smoothed(Curve(tokens=line, values=line)).values[100:900], line[100:900], rtol=1e-9)


@pytest.mark.parametrize("length", [0, 1, 2])
def test_short_curves_are_smoothed_to_their_own_length(length):
    assert len(smoothed(Curve(tokens=np.arange(length), values=np.ones(length))).values) == length


@given(low=st.floats(-1e9, 1e9), span=st.floats(1e-6, 1e9))
def test_ticks_are_few_and_within(low, span):
    high = low + span
    ticks = nice_ticks(low, high)
    slack = 1e-6 * max(span, 1e-6 * abs(low), 1e-9)
    assert all(low - slack <= tick <= high + slack for tick in ticks)
    assert len(ticks) <= 6


def test_ticks_are_round():
    assert nice_ticks(0, 1) == [0, 0.5, 1.0]
    assert nice_ticks(2.3, 6.1) == [3, 4, 5, 6]
