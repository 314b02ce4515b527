"""Memory of the blocked kernel: linear in the sequence length, forward and backward."""

import subprocess
import sys

MEASURED = """
import resource
import torch
from triptych.kernels.flash_sigmoid.attention import sigmoid_attention
from triptych.kernels.flash_sigmoid.problem import Band

def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def run(length):
    query, key, value = (torch.randn(1, length, n, 16, requires_grad=True) for n in (2, 1, 1))
    sigmoid_attention(query, key, value, band=Band(right=0)).sum().backward()

torch.set_num_threads(1)
run(64)
before = peak_mib()
run(8192)
print(peak_mib() - before)
"""
LINEAR_MIB = 40
"""Queries, keys, values, output, gradients and copies of [8192, 2, 16] in fp32, and a few blocks; all scores of one
head are 256 MiB.
"""


def test_scores_are_never_held_at_once():
    done = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < LINEAR_MIB
