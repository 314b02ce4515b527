"""Counter-based random numbers: the same value for the same key, wherever and in whatever order it is asked for."""

from triptych.kernels.philox.stream import Purpose, Stream

__all__ = ["Purpose", "Stream"]
