import math

import pytest

from triptych.launch.report.numbers import NOTHING, duration, fixed, percent, short


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1k"),
        (999_900, "1M"),
        (2_134_016, "2.13M"),
        (6.4e12, "6.4T"),
        (0.00314159, "0.00314"),
    ],
)
def test_large_numbers_are_shortened(value, text):
    assert short(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(8.44, "8.4 s"), (59.97, "1 min 00 s"), (245, "4 min 05 s"), (7800, "2 h 10 min")]
)
def test_durations_read_as_people_say_them(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize("write", [percent, short, duration, fixed])
@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_what_is_no_number_is_a_dash(write, value):
    assert write(value) == NOTHING
