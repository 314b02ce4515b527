"""Mistakes that this function invites, planted into the blocked kernel one at a time: a named test fails of each."""

import inspect
from types import ModuleType

import pytest
import test_attention_laws as laws
import test_attention_segments as segments
import test_attention_values as values
import test_attention_weights as weights
import torch

from triptych.kernels.flash_sigmoid import attention as attention_module
from triptych.kernels.flash_sigmoid import blocked, operator
from triptych.kernels.flash_sigmoid.attention import sigmoid_attention
from triptych.kernels.flash_sigmoid.problem import CAUSAL, minus_log

pytest_plugins = ["attention_kernels"]


def small(name):
    return lambda: values.test_small_cases(sigmoid_attention, name)


MISTAKES = {
    "no scale on dK": (
        "(ds_XKJ.mT, query_XLD[lines], beta=beta, alpha=problem.scale)",
        "(ds_XKJ.mT, query_XLD[lines], beta=beta)",
        small("scale"),
    ),
    "no scale on dQ": (
        "(ds_XKJ, key_XTD[keys], beta=beta, alpha=problem.scale)",
        "(ds_XKJ, key_XTD[keys], beta=beta)",
        small("scale"),
    ),
    "sigma through tanh": (
        "weights_XKJ.sigmoid_()",
        "weights_XKJ.mul_(0.5).tanh_().mul_(0.5).add_(0.5)",
        lambda: weights.test_each_weight_is_right(131_072),
    ),
    "sigma's derivative without 1 - P": (
        "torch.ops.aten.sigmoid_backward.grad_input(dp_XKJ, weights_XKJ, grad_input=dp_XKJ)",
        "dp_XKJ * weights_XKJ",
        small("full"),
    ),
    "one key too many of the future": (
        "j > i + problem.right,",
        "j > i + problem.right + 1,",
        lambda: laws.test_the_future_does_not_change_the_past(sigmoid_attention),
    ),
    "one key too few of the present": ("last + problem.right + 1,", "last + problem.right,", small("causal")),
    "one key too few of the past": (
        "j < i - problem.left,",
        "j < i - problem.left + 1,",
        lambda: laws.test_the_past_beyond_a_window_does_not_change_the_present(sigmoid_attention),
    ),
    "ALiBi without what is constant in a row": (
        "(i - j).abs().float()",
        "(-j).float()",
        small("ALiBi per row, causal"),
    ),
    "a bias of each row": (
        "query_XKD.new_full((1, 1, 1), problem.bias_value)",
        "-torch.arange(1.0, query_XKD.shape[1] + 1).log()[None, :, None]",
        small("-log n"),
    ),
    "heads of a group that alternate": (
        "x_BSHD.unflatten(2, (num_groups, -1)).transpose(1, 2)\n    return",
        "x_BSHD.unflatten(2, (-1, num_groups)).permute(0, 3, 1, 2, 4)\n    return",
        lambda: laws.test_groups_are_repeated_keys(sigmoid_attention, CAUSAL),
    ),
    "padding that is left as it was": (
        "        out_BSHE.zero_()",
        "        pass",
        lambda: segments.test_padding_is_not_read_and_gets_zeros(sigmoid_attention, torch.float32),
    ),
    "targets that begin anywhere": (
        "like_XLD.new_zeros(shape) if beta",
        "like_XLD.new_empty(shape) if beta",
        lambda: values.test_more_than_a_block_of_everything("window"),
    ),
    "gradients of the bias that are one segment's": ("db_NH[segment.numbers]", "db_NH[:1]", small("documents")),
}


def with_mistake(right, wrong):
    """The blocked kernel as a module of its own, with `wrong` in the place of `right`."""
    source = inspect.getsource(blocked)
    assert right in source
    module = ModuleType("blocked_with_a_mistake")
    module.__dict__["__name__"] = blocked.__name__  # dataclasses look their module up
    exec(source.replace(right, wrong), module.__dict__)
    return module


def plant(module, monkeypatch):
    monkeypatch.setattr(operator, "_implementation", lambda kernel: module)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake, monkeypatch, poisoned_memory):
    right, wrong, check = MISTAKES[mistake]
    check()
    plant(with_mistake(right, wrong), monkeypatch)
    with pytest.raises(AssertionError):
        check()


def test_a_wrong_number_of_keys_is_found(monkeypatch):
    check = small("-log n")
    check()
    monkeypatch.setattr(attention_module, "minus_log", lambda length: minus_log(length + 1))
    with pytest.raises(AssertionError):
        check()


def test_one_number_of_keys_for_every_document_is_found(monkeypatch):
    def of_the_longest(segments):
        return torch.full((len(segments.table_N6), 1), minus_log(segments.max_key_length))

    def check():
        segments.test_documents_are_what_they_are_alone(sigmoid_attention, CAUSAL)

    check()
    monkeypatch.setattr(attention_module, "minus_log_of_each", of_the_longest)
    with pytest.raises(AssertionError):
        check()
