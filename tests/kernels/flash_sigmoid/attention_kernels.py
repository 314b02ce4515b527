"""`attention`: the function with each kernel that a CPU can run, the Triton kernels in Triton's interpreter."""

import functools
import sys
from pathlib import Path

import pytest
import torch

from triptych.kernels.flash_sigmoid import attention as attention_module
from triptych.kernels.flash_sigmoid import operator

sys.path.append(str(Path(__file__).parent / "device"))  # the interpreted kernels are defined beside their own tests


@functools.cache
def interpreted_launcher():
    from interpreted import launcher

    return launcher()


@pytest.fixture
def poisoned_memory():
    """What is allocated and not filled is NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(params=["blocked", "triton"])
def attention(request, monkeypatch, poisoned_memory):
    if request.param == "triton":
        pytest.importorskip("triton")
        monkeypatch.setattr(operator, "_implementation", lambda kernel: interpreted_launcher())
    monkeypatch.setattr(attention_module, "choose_kernel", lambda *_: request.param)
    return attention_module.sigmoid_attention
