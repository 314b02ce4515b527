"""The default efficiencies, fitted to the rows of `results/figures.csv` that say so."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from triptych.launch.planning.least_squares import fit_factors
from triptych.launch.planning.model.assumptions import default_assumptions
from triptych.launch.planning.published.rows import Published

START = {
    "matmul ampere": 0.8,
    "attention ampere": 0.45,
    "matmul hopper": 0.65,
    "attention hopper": 0.3,
    "elementwise": 2.0,
}
"""Where the fit begins, and stays where no row says otherwise."""


def fit_defaults(rows: Sequence[Published]) -> dict[str, float]:
    """Factors by the names in START, from the rows that are marked; the others are not looked at."""
    marked = [row for row in rows if row.fitted]

    def residuals(factors: Mapping[str, float]) -> list[float]:
        return [math.log(_ratio(row, factors)) for row in marked]

    return fit_factors(residuals, START)


def _ratio(row: Published, factors: Mapping[str, float]) -> float:
    assumed = replace(
        default_assumptions(row.device),
        matmul_efficiency=factors[f"matmul {row.device.architecture}"],
        attention_efficiency=factors[f"attention {row.device.architecture}"],
        elementwise_factor=factors["elementwise"],
    )
    return row.ratio(assumed)
