"""The board: the first obituary stands, ranks meet, and nothing waits for a store that is silent."""

import threading
import time

import torch.distributed as dist

from triptych.trainer.parallel.watch.board import Board
from triptych.trainer.parallel.watch.obituary import Obituary


class SilentStore(dist.Store):
    """A store whose process is stopped."""

    def __init__(self):
        super().__init__()
        self.answers = threading.Event()

    def add(self, key, amount):
        self.answers.wait()
        return 1


def test_the_first_obituary_stands():
    store = dist.HashStore()
    first, second = Obituary(rank=1, host="a", cause="x"), Obituary(rank=2, host="b", cause="y")
    assert [Board(store).post(first), Board(store).post(second)] == [first, first]


def test_ranks_with_the_same_words_say_one_thing():
    store = dist.HashStore()
    found = []
    others = threading.Thread(target=lambda: found.append(Board(store).all_say("wrong", 2, seconds=10)))
    others.start()
    found.append(Board(store).all_say("wrong", 2, seconds=10))
    others.join()
    assert found == [True, True]


def test_a_rank_with_words_of_its_own_is_alone():
    store = dist.HashStore()
    assert [Board(store).all_say(text, 2, seconds=0.05) for text in ("wrong", "different")] == [False, False]


def test_a_silent_store_is_not_waited_for():
    store = SilentStore()
    started = time.monotonic()
    answer = Board(store, patience_seconds=0.1).count("done")
    store.answers.set()
    assert (answer, time.monotonic() - started < 5) == (None, True)
