"""The watch over ranks that are threads of one process, with a store in memory: who is found dead, and when nobody."""

import threading
import time

import pytest
import torch.distributed as dist

from triptych.trainer.metrics import StepRecord
from triptych.trainer.parallel.placement import Placement
from triptych.trainer.parallel.watch import ring
from triptych.trainer.parallel.watch.board import Board
from triptych.trainer.parallel.watch.obituary import Obituary
from triptych.trainer.parallel.watch.ring import Watch, WatchConfig

QUICK = WatchConfig(silence_seconds=1.0, suspicion_seconds=0.3, join_seconds=1.5, beat_seconds=0.05)


class Rank:
    """A watch and what it ended with."""

    def __init__(self, store, rank, world_size, config=QUICK):
        self.ends = []
        placement = Placement(rank=rank, world_size=world_size)
        self.watch = Watch(config, store, placement, host=f"node{rank}", store_rank=0, end=self.ends.append)


@pytest.fixture(autouse=True)
def _no_grace(monkeypatch):
    monkeypatch.setattr(ring, "GRACE_SECONDS", 0.0)


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def started(store, *numbers, world_size=3):
    ranks = {number: Rank(store, number, world_size) for number in numbers}
    for rank in ranks.values():
        rank.watch.__enter__()
    return ranks


def stop(ranks):
    for rank in ranks.values():
        rank.watch.__exit__()


def record(step):
    return StepRecord(
        step=step,
        tokens=100 * step,
        total_tokens=1000,
        batch_tokens=100,
        batch=4,
        kappa=1.0,
        seconds=1.0,
        learning_rate=0.1,
        gradient_norm=1.0,
        metrics={},
    )


def test_every_rank_ends_when_one_falls_silent_naming_it_and_its_place():
    store = dist.HashStore()
    ranks = started(store, 0, 1, 2)
    ranks[1].watch.note(record(7))
    wait_for(lambda: b"step 7, 700 tokens" in store.get("sign/1"))
    ranks[1].watch.__exit__()
    wait_for(lambda: ranks[0].ends and ranks[2].ends)
    stop(ranks)
    (seen,) = {(end.rank, end.host) for number in (0, 2) for end in ranks[number].ends}
    assert seen == (1, "node1")
    assert "no sign of life for 1 s" in str(ranks[2].ends[0])
    assert "last seen after step 7, 700 tokens" in str(ranks[2].ends[0])


def test_a_broken_connection_shortens_the_patience():
    store = dist.HashStore()
    ranks = started(store, 0, 1, 2)
    wait_for(lambda: store.check(["sign/1"]))
    ranks[1].watch.__exit__()
    Board(store).suspect()
    wait_for(lambda: ranks[0].ends)
    stop(ranks)
    assert "no sign of life for 0 s, and a connection broke" in ranks[0].ends[0].cause


def test_a_rank_that_never_joins_is_named():
    store = dist.HashStore()
    ranks = started(store, 0, 2)
    wait_for(lambda: ranks[0].ends and ranks[2].ends)
    stop(ranks)
    assert "has not joined" in ranks[2].ends[0].cause
    assert ranks[2].ends[0].rank == 1


def test_a_posted_failure_ends_the_others():
    store = dist.HashStore()
    ranks = started(store, 0, 1, world_size=2)
    posted = Board(store).post(Obituary(rank=1, host="node1", cause="ValueError: x"))
    wait_for(lambda: ranks[0].ends)
    stop(ranks)
    assert ranks[0].ends == [posted]


def test_ranks_that_leave_together_end_nobody():
    store = dist.HashStore()
    ranks = started(store, 0, 1, 2)
    wait_for(lambda: store.check(["sign/0", "sign/1", "sign/2"]))
    leaving = []
    for number, rank in ranks.items():
        time.sleep(0.2 * number)  # the last comes when the first has long been done
        leaving.append(threading.Thread(target=rank.watch.leave, args=(Board(store),)))
        leaving[-1].start()
    for thread in leaving:
        thread.join(20)
    time.sleep(2 * QUICK.silence_seconds)
    stop(ranks)
    assert [rank.ends for rank in ranks.values()] == [[], [], []]


def test_a_store_that_is_lost_is_the_death_of_the_rank_that_served_it():
    served = dist.TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
    client = dist.TCPStore("127.0.0.1", served.port, None, False)
    rank = Rank(client, 1, 2)
    rank.watch.__enter__()
    wait_for(lambda: client.check(["sign/1"]) or True)
    del served
    wait_for(lambda: rank.ends)
    rank.watch.__exit__()
    assert rank.ends[0].rank == 0
    assert "its connections closed" in rank.ends[0].cause


@pytest.mark.parametrize(
    "changes", [{"beat_seconds": 0.0}, {"beat_seconds": 3.0}, {"silence_seconds": 1.0}, {"parameters_every_steps": -1}]
)
def test_impossible_settings_are_refused(changes):
    with pytest.raises(ValueError, match=r"watch\..*; "):
        WatchConfig(**changes)
