"""The fixture that the distributed tests stand on."""

import os
import time

import pytest
import torch
from torch import distributed


def sum_of_ranks(offset):
    value = torch.tensor(distributed.get_rank() + offset)
    distributed.all_reduce(value)
    return value.item()


def raise_on_rank_one():
    if distributed.get_rank() == 1:
        raise ValueError("planted on purpose")
    distributed.barrier()


def leave_on_rank_one():
    if distributed.get_rank() == 1:
        os._exit(7)
    distributed.barrier()


def wait_for_ever():
    if distributed.get_rank() == 0:
        distributed.barrier()
    else:
        time.sleep(600)


def test_every_rank_returns_its_result(run_processes):
    assert run_processes(sum_of_ranks, 2, 10) == [21, 21]


def test_a_rank_that_raises_is_named_first(run_processes):
    with pytest.raises(pytest.fail.Exception, match=r"^rank1 of 2 raised:\n(.|\n)*planted on purpose"):
        run_processes(raise_on_rank_one, 2)


def test_a_rank_that_dies_is_named_with_its_exit_code(run_processes):
    with pytest.raises(pytest.fail.Exception, match="rank1 of 2 died with exit code 7"):
        run_processes(leave_on_rank_one, 2)


def test_ranks_that_hang_are_named(run_processes):
    with pytest.raises(pytest.fail.Exception, match="rank1 of 2 had not ended after 3 s"):
        run_processes(wait_for_ever, 2, timeout_seconds=3)
