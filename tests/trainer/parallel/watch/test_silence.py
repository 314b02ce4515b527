"""Silence adds up what was watched, and a watcher's own pauses count for nothing."""

from triptych.trainer.parallel.watch.silence import Silence


def test_silence_adds_up_while_the_sign_stays():
    silence = Silence(most_seconds=2.0)
    assert [silence.look("a", now) for now in (0.0, 1.0, 2.5, 4.0)] == [0.0, 1.0, 2.5, 4.0]


def test_a_new_sign_is_life():
    silence = Silence(most_seconds=2.0)
    assert [silence.look(sign, now) for sign, now in (("a", 0.0), ("a", 1.0), ("b", 2.0), ("b", 3.0))] == [0, 1, 0, 1]


def test_a_pause_of_the_watcher_is_not_the_others_silence():
    silence = Silence(most_seconds=2.0)
    silence.look("a", 0.0)
    assert silence.look("a", 600.0) == 2.0
