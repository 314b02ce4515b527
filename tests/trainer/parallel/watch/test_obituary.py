"""The line that a user reads, its way through a store, and which errors are only the shadow of another's."""

import pytest
import torch.distributed as dist

from triptych.trainer.parallel.watch.obituary import Obituary, is_secondary

DEAD = Obituary(rank=3, host="node7", cause="no sign of life for 30 s", place="after step 12, in trainer.step")


def test_the_line_names_rank_host_cause_and_place():
    assert str(DEAD) == "rank 3 (node7): no sign of life for 30 s; last seen after step 12, in trainer.step"


def test_a_cause_that_names_the_ranks_stands_alone():
    assert str(Obituary(rank=None, cause="rank 2 differs")) == "rank 2 differs"


def test_an_obituary_reads_back():
    assert Obituary.from_json(DEAD.to_json()) == DEAD


@pytest.mark.parametrize(
    "error",
    [
        dist.DistBackendError("NCCL error: remote process exited"),
        dist.DistNetworkError("Broken pipe"),
        RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [10.0.0.1]"),
    ],
)
def test_a_broken_connection_is_secondary(error):
    assert is_secondary(error)


def test_what_a_broken_connection_caused_is_secondary():
    error = KeyError("x")
    error.__context__ = dist.DistBackendError("NCCL error")
    assert is_secondary(error)


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("CUDA error: out of memory"), KeyboardInterrupt()])
def test_any_other_error_is_a_cause(error):
    assert not is_secondary(error)
