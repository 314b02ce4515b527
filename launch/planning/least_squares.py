"""Fit of a few positive factors to measured times, by least squares of logarithms."""

from collections.abc import Callable, Mapping

import numpy as np

Residuals = Callable[[Mapping[str, float]], list[float]]
_STEP = 1e-4


def fit_factors(
    residuals: Residuals, start: Mapping[str, float], *, spread: float = 0.7, num_rounds: int = 30
) -> dict[str, float]:
    """Factors, of the names in `start`, that make the squares of the residuals least.

    residuals: of factors, the logarithms of predicted over measured. spread: how far, in the logarithm, a factor may
    be from its start before that costs as much as a measurement that is off by a factor of e^0.3: what no measurement
    tells stays where it was (a Gaussian prior, our choice). Levenberg's damped Gauss-Newton on logarithms.
    """
    names = list(start)
    origin = np.log([start[name] for name in names])

    def errors(logs: np.ndarray) -> np.ndarray:
        found = residuals(dict(zip(names, np.exp(logs).tolist(), strict=True)))
        return np.concatenate([found, 0.3 * (logs - origin) / spread])

    logs, damping = origin.copy(), 1e-3
    now = errors(logs)
    for _ in range(num_rounds):
        columns = [(errors(logs + _STEP * unit) - now) / _STEP for unit in np.eye(len(names))]
        jacobian = np.stack(columns, axis=1)
        normal = jacobian.T @ jacobian
        move = np.linalg.solve(normal + damping * np.eye(len(names)), -jacobian.T @ now)
        there = errors(logs + move)
        if there @ there < now @ now:
            logs, now, damping = logs + move, there, damping / 3
        else:
            damping *= 5
        if np.abs(move).max() < 1e-6:
            break
    return dict(zip(names, np.exp(logs).tolist(), strict=True))
