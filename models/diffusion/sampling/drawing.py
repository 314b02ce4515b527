"""Drawing a token from logits: temperature, nucleus, and how sure the model was.

Shape legend: R rows, V ids.
"""

import torch
from torch import Tensor

_COLD = 1e-9  # below, log-probabilities overflow when they are divided by it, and the likeliest id has all the mass


def nucleus(probabilities_RV: Tensor, top_p: float) -> Tensor:
    """Zeroes what is outside the smallest set of likeliest ids with mass >= top_p (Holtzman et al. 2020, section 3.1).

    Not renormalized. The likeliest id always stays; of equal ones the lower id comes first.
    """
    sorted_RV, order_RV = probabilities_RV.sort(dim=1, descending=True, stable=True)
    before_RV = sorted_RV.cumsum(1) - sorted_RV
    before_RV[:, 0] = 0
    kept_RV = torch.zeros_like(before_RV, dtype=torch.bool).scatter(1, order_RV, before_RV < top_p)
    return probabilities_RV * kept_RV


def draw(logits_RV: Tensor, draws_R: Tensor, temperature: float, top_p: float) -> tuple[Tensor, Tensor]:
    """One id per row, int64 [R], and its log-probability, float64 [R].

    draws_R: float64 in (0, 1), the only randomness. The id comes from the distribution at `temperature`, cut to its
    nucleus; at temperature 0, or as good as that, it is the likeliest. The log-probability is the model's own, at
    temperature 1 and uncut: confidence must not depend on how sharply we draw. In float64 and by inversion of the
    cumulative sum, so that one number per row is enough (our choice; the same distribution as adding Gumbel noise to
    the logits).
    """
    log_probabilities_RV = torch.log_softmax(logits_RV.double(), dim=1)
    if temperature < _COLD:
        ids_R = log_probabilities_RV.argmax(1)
    else:
        probabilities_RV = torch.softmax(log_probabilities_RV / temperature, dim=1)
        if top_p < 1:
            probabilities_RV = nucleus(probabilities_RV, top_p)
        cumulative_RV = probabilities_RV.cumsum(1)
        total_R = cumulative_RV[:, -1]
        # Strictly below the total, so that the first sum above it belongs to an id of positive probability.
        level_R = torch.minimum(draws_R * total_R, torch.nextafter(total_R, torch.zeros_like(total_R)))
        ids_R = torch.searchsorted(cumulative_RV, level_R[:, None], right=True)[:, 0]
    return ids_R, log_probabilities_RV.gather(1, ids_R[:, None])[:, 0]
