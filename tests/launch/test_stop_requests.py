"""Ctrl-C and SIGTERM ask for a stop; the handlers of before come back."""

import signal

import pytest

from triptych.launch.signals import remember_stops, stop_requests


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_asks_for_a_stop(number):
    with stop_requests() as asked:
        before = asked()
        signal.raise_signal(number)
        assert (before, asked()) == (False, True)


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_the_second_interrupt_is_one(first):
    with stop_requests():
        signal.raise_signal(first)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_the_handlers_of_before_come_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    with pytest.raises(ZeroDivisionError), stop_requests():
        _ = 1 / 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)] == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_stop_that_came_before_is_remembered(number):
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        remember_stops()
        signal.raise_signal(number)
        with stop_requests() as asked:
            assert asked()
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
