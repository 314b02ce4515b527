"""A model starts as Complete(d)P's multipliers say: the two floors have the same ones."""

import pytest
from shaped_models import base_shape, built, by_kind, shaped, size

from triptych.models.parameterization import VECTORS
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement
from triptych.trainer.scaling.rules import completed_p

CHANGES = {
    "wider": ((128, 2), base_shape()),
    "narrower": ((32, 2), base_shape(width=64)),
    "deeper": ((64, 8), base_shape(0.5, width=64)),
    "both": ((128, 4), base_shape(0.75)),
}


@pytest.fixture(scope="module")
def pairs():
    """Change to the base's model, the model, and how they compare."""
    with process_groups(Placement()) as groups:
        found = {}
        for change, (shape, base) in CHANGES.items():
            config = shaped(*shape, base)
            own = shaped(base.hidden_size, base.num_layers, None)
            found[change] = built(own, groups), built(config, groups), config.shape_ratio
        return found


@pytest.mark.parametrize("change", CHANGES)
def test_initial_standard_deviations_are_those_of_the_rules(pairs, change):
    own, model, ratio = pairs[change]
    factors = {kind: size(p) / size(by_kind(own)[kind]) for kind, p in by_kind(model).items()}
    assert factors == {kind: pytest.approx(completed_p(kind, ratio).initial_std, rel=0.05) for kind in factors}


@pytest.mark.parametrize("change", CHANGES)
def test_residual_branches_count_for_the_depth_ratio(pairs, change):
    _, model, ratio = pairs[change]
    scales = {add.scale for layer in model.layers.values() for add in (layer.self_attn_bda, layer.mlp_bda)}
    assert scales == {ratio.depth**-ratio.depth_exponent}


def test_gains_start_at_one_at_every_shape(pairs):
    kinds = by_kind(pairs["both"][1])
    assert all((gain == 1).all() for kind in VECTORS & kinds.keys() for gain in kinds[kind])
