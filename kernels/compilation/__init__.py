"""Triton kernels compiled for a GPU that is not there: what they need of it, and the instructions they became."""

from triptych.kernels.compilation.ahead_of_time import SHARED_LIMIT_BYTES, Resources, compile_for

__all__ = ["SHARED_LIMIT_BYTES", "Resources", "compile_for"]
