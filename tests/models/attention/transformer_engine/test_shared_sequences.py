"""The drop-in on two ranks that share each sequence computes what it does on one."""

import pytest
import torch
import torch.distributed as dist
from torch import nn

from triptych.models.attention.context_parallel import part_of_rank
from triptych.models.attention.transformer_engine.dot_product_attention import SigmoidDotProductAttention

CASES = [
    ("sbhd", "causal", None, "-log n"),
    ("bshd", "no_mask", (3, 2), "-log n of each"),
    ("bshd", "causal_bottom_right", (4, 0), -2.0),
    ("sbhd", "causal", None, "learned"),
]


def whole():
    draw = torch.Generator().manual_seed(8)
    return [torch.randn(12, 12, heads, 4, generator=draw) for heads in (4, 2, 2)]


def computed(layers, case, group):
    """Output and gradients of the layers, and of a bias that is learned."""
    layout, mask_type, window, bias = case
    layers = [layer.clone().requires_grad_() for layer in layers]
    learned = nn.Parameter(torch.linspace(-2.0, 1.0, 4)) if bias == "learned" else None
    settings = {"qkv_format": layout, "attn_mask_type": mask_type, "window_size": window}
    module = SigmoidDotProductAttention(4, 4, 2, **settings, bias=bias if learned is None else learned)
    module.set_context_parallel_group(group, None, None, "p2p")
    out = module(*layers)
    out.square().sum().backward()
    return [out.detach(), *(layer.grad for layer in layers)], None if learned is None else learned.grad


def on_a_rank():
    group = dist.group.WORLD
    results = []
    for case in CASES:
        dim = 0 if case[0] == "sbhd" else 1
        parts = [part_of_rank(layer, dist.get_rank(), 2, order="dual_chunk_swap", dim=dim) for layer in whole()]
        results.append(computed(parts, case, group))
    module = SigmoidDotProductAttention(4, 4, 2, cp_group=group, attn_mask_type="padding")
    mask = torch.zeros(12, 1, 1, 6, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"^cp_group is set with padding in attn_mask_type.*; pad and pack nothing"):
        module(*(layer[:6] for layer in whole()), mask)
    return results


def test_two_ranks_compute_what_one_does(run_processes):
    ranks = run_processes(on_a_rank, 2)
    for index, case in enumerate(CASES):
        dim = 0 if case[0] == "sbhd" else 1
        expected, expected_bias = computed(whole(), case, None)
        for rank, results in enumerate(ranks):
            for ours, theirs in zip(results[index][0], expected, strict=True):
                part = part_of_rank(theirs, rank, 2, order="dual_chunk_swap", dim=dim)
                torch.testing.assert_close(ours, part, atol=1e-5, rtol=1e-5)
        if expected_bias is not None:
            summed = sum(results[index][1] for results in ranks)
            torch.testing.assert_close(summed, expected_bias, atol=1e-4, rtol=1e-5)
