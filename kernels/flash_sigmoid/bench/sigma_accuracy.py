"""Errors of ways to compute sigma, emulated: `python -m triptych.kernels.flash_sigmoid.bench.sigma_accuracy FILE`.

NumPy's fp32 in the order of the kernels' instructions, against fp64. The approximate instructions are taken to be exact
but for rounding, and then with their documented errors at their worst and at random; what they do on a chip is for the
benchmark to measure.

Shape legend: N logits, G groups, K members of a group.
"""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LOWEST, HIGHEST = -20.0, 10.0
NUM_LOGITS = 1 << 20
LENGTHS = (1024, 4096, 16384, 65536, 131072)
INTERVALS = ((-20.0, -15.0), (-15.0, -10.0), (-10.0, -5.0), (-5.0, 0.0), (0.0, 10.0))
EX2_ERROR, RCP_ERROR = 2.0**-22, 2.0**-23
"""Largest relative errors of ex2.approx.ftz.f32 and rcp.approx.ftz.f32 (PTX ISA, floating point instructions)."""
TANH_GUARANTEED, TANH_REPORTED = 2.0**-11, 1.113e-5
"""Largest relative errors of tanh.approx.f32: the PTX ISA's, and one that was reported of a measured chip (NVIDIA's
developer forum, thread 173291).
"""
_LARGEST_EXPONENT = 30.0
_LOG2_E = 1.4426950408889634

Single = NDArray[np.float32]
Double = NDArray[np.float64]


@dataclass(kw_only=True, slots=True, frozen=True)
class Instructions:
    """ex2 and rcp: exact results rounded to fp32 if errors is None, else off by up to their documented errors."""

    errors: np.random.Generator | None = None

    def ex2(self, y: Single) -> Single:
        return self._rounded(np.exp2(y.astype(np.float64)), EX2_ERROR)

    def rcp(self, x: Single) -> Single:
        return self._rounded(1 / x.astype(np.float64), RCP_ERROR)

    def _rounded(self, exact: Double, largest: float) -> Single:
        if self.errors is not None:
            exact = exact * (1 + largest * self.errors.choice([-1.0, 1.0], exact.shape))
        return exact.astype(np.float32)


def fma(a: Single, b: Single | np.float32, c: Single | np.float32) -> Single:
    """Rounded once, but for a double rounding of one in 2^29."""
    return (a.astype(np.float64) * b + c).astype(np.float32)


def exponents(logits_N: Single, bias: float) -> Single:
    """y = -x log2(e) of logits x = s + bias, as the kernels have it: one fma of s, with constants rounded to fp32."""
    scores_N = logits_N - np.float32(bias)
    return fma(scores_N, np.float32(-_LOG2_E), np.float32(-bias * _LOG2_E))


def sigma(y_N: Single, instructions: Instructions, num_together: int) -> Single:
    """1 / (1 + 2^y) with one reciprocal for `num_together` elements, 1, 2 or 4."""
    if num_together > 1:
        y_N = np.minimum(y_N, np.float32(_LARGEST_EXPONENT))
    e_GK = instructions.ex2(y_N).reshape(-1, num_together)
    one = np.float32(1)
    if num_together == 1:
        return instructions.rcp(e_GK[:, 0] + one)
    pairs = [_pair(e_GK[:, k], e_GK[:, k + 1]) for k in range(0, num_together, 2)]
    r_G = instructions.rcp(reduce(np.multiply, [product for _, product, _ in pairs]))
    inverses = [r_G] if num_together == 2 else [pairs[1][1] * r_G, pairs[0][1] * r_G]
    found = np.empty_like(e_GK)
    for k, (inverse, (d, _, e)) in enumerate(zip(inverses, pairs, strict=True)):
        found[:, 2 * k] = fma(inverse, e, inverse)
        found[:, 2 * k + 1] = inverse * d
    return found.reshape(-1)


def _pair(e0: Single, e1: Single) -> tuple[Single, Single, Single]:
    """d0, d0 d1 and e1 of d = 1 + e: d1 is never rounded by itself."""
    d0 = e0 + np.float32(1)
    return d0, fma(e1, d0, d0), e1


def sigma_by_tanh(logits_N: Single, relative_error: float) -> Single:
    """(1 + tanh(x / 2)) / 2 with a tanh that is off by that much away from 0."""
    tanh_N = (np.tanh(logits_N.astype(np.float64) / 2) * (1 + relative_error)).astype(np.float32)
    return fma(tanh_N, np.float32(0.5), np.float32(0.5))


def relative_errors(found_N: Single, logits_N: Single) -> Double:
    """Against fp64."""
    return found_N.astype(np.float64) * (1 + np.exp(-logits_N.astype(np.float64))) - 1


def logits() -> Single:
    """An even grid from LOWEST to HIGHEST in random order, so that any sizes meet in a group."""
    grid = np.linspace(LOWEST, HIGHEST, NUM_LOGITS).astype(np.float32)
    return np.random.default_rng(0).permutation(grid)


def ways(bias: float) -> dict[str, Callable[[Single], Single]]:
    """Name to sigma of logits s + bias."""

    def of(num_together: int, errors: np.random.Generator | None) -> Callable[[Single], Single]:
        return lambda x_N: sigma(exponents(x_N, bias), Instructions(errors=errors), num_together)

    found: dict[str, Callable[[Single], Single]] = {}
    for name, num_together in (("one by one", 1), ("two share a reciprocal", 2), ("four share a reciprocal", 4)):
        found[name] = of(num_together, None)
        found[f"{name}, worst instructions"] = of(num_together, np.random.default_rng(1))
    found["tanh, as reported"] = lambda x_N: sigma_by_tanh(x_N, TANH_REPORTED)
    found["tanh, as guaranteed"] = lambda x_N: sigma_by_tanh(x_N, TANH_GUARANTEED)
    return found


def by_interval() -> str:
    """Largest relative error (mean signed error) per interval of logits, at a bias of -log 16384."""
    x_N = logits()
    head = ["sigma", *(f"{low:g} to {high:g}" for low, high in INTERVALS)]
    rows = []
    for name, way in ways(-math.log(16384)).items():
        error_N = relative_errors(way(x_N), x_N)
        inside = [error_N[(x_N >= low) & (x_N <= high)] for low, high in INTERVALS]
        rows.append([name, *(f"{np.abs(each).max():.1e} ({each.mean():+.0e})" for each in inside)])
    return _table(head, rows)


def by_length() -> str:
    """Largest relative error within 0.1 of a logit of -log n, at that bias."""
    x_N = logits()
    head = ["n", "sigma(-log n)", *ways(0.0)]
    rows = []
    for length in LENGTHS:
        near_N = np.abs(x_N + math.log(length)) < 0.1
        bias = -math.log(length)
        errors = [np.abs(relative_errors(way(x_N), x_N)[near_N]).max() for way in ways(bias).values()]
        rows.append([str(length), f"{1 / (1 + length):.1e}", *(f"{error:.1e}" for error in errors)])
    return _table(head, rows)


def page() -> str:
    """Both tables, and how they were made."""
    return f"""# How accurate sigma is, emulated

`python -m triptych.kernels.flash_sigmoid.bench.sigma_accuracy`, numpy {np.__version__}: {NUM_LOGITS} logits
from {LOWEST:g} to {HIGHEST:g} in random order, fp32 in the order of the kernels' instructions, against fp64. "Worst
instructions": every ex2 is off by 2^-22 and every rcp by 2^-23, their documented bounds, with random signs. The tanh is
off by its bound everywhere, which a chip's need not be. **Nothing here was measured on a GPU.** Rounding P to bf16 is
an error of up to 3.9e-3, to fp16 of 4.9e-4.

Largest relative error (mean signed error) by interval of the logit, at a bias of -log 16384:

{by_interval()}

Largest relative error within 0.1 of -log n, at a bias of -log n:

{by_length()}
"""


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows])


def main() -> None:
    """Write the page."""
    Path(sys.argv[1]).write_text(page())


if __name__ == "__main__":
    main()
