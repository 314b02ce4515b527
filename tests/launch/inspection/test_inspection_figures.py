"""Bars stand for what was counted, and no sample falls out of a figure."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.data_pipelines.statistics.lengths import LengthCounts
from triptych.launch.inspection.figures import MAX_BARS, code_chart, length_chart, rank_chart, size_chart


def tips(svg):
    """What is shown on hover of each bar."""
    return [
        each.findtext("title") for each in ElementTree.fromstring(svg).iter("rect") if each.find("title") is not None
    ]


def numbers(svg):
    return [int(re.search(r": ([\d,]+) samples?$", tip)[1].replace(",", "")) for tip in tips(svg)]


def chart_of(lengths):
    counts = LengthCounts.of([np.array(lengths, np.int64)])
    return length_chart(counts, colour="text", title="lengths", unit="codes")


@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=200))
def test_every_sample_is_in_one_bar(lengths):
    found = numbers(chart_of(lengths))
    assert sum(found) == len(lengths)
    assert len(found) <= MAX_BARS + 2


def test_a_bar_of_one_length_says_which():
    assert [tip for tip in tips(chart_of([16] * 5)) if not tip.endswith(": 0 samples")] == ["16: 5 samples"]


def test_a_far_tail_is_one_bar():
    svg = chart_of([10] * 1000 + [11] * 1000 + [90_000])
    assert tips(svg)[-1].endswith("to 90,000: 1 sample")
    assert "to 90k" in svg


@given(st.lists(st.floats(0.01, 1e6), min_size=1, max_size=100))
def test_every_size_is_in_one_bar(sizes):
    assert sum(numbers(size_chart(sizes, colour="audio", title="a", unit="seconds"))) == len(sizes)


def test_nothing_has_no_chart():
    assert (chart_of([]), size_chart([], colour="text", title="a", unit="b")) == ("", "")


@pytest.mark.parametrize("size", [1, 64, 1024, 100_003])
def test_codes_that_never_occur_are_marked(size):
    counts_V = np.zeros(size, np.int64)
    counts_V[0] = 3
    svg = code_chart(counts_V, size, colour="image", title="codes")
    marked = [each for each in ElementTree.fromstring(svg).iter("rect") if each.get("class") == "lacking"]
    assert bool(marked) == (size > 1)
    assert len(tips(svg)) <= 128


def test_ranks_are_drawn_of_what_occurs():
    svg = rank_chart(np.array([5, 0, 2, 1]), colour="text", title="ranks")
    (line,) = (each for each in ElementTree.fromstring(svg).iter("path") if "line" in each.get("class"))
    assert line.get("d").count("L") == 2  # three points
