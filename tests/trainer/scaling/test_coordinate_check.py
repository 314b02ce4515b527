"""Complete(d)P keeps what a model computes, and how it changes in training, as large at every width and depth
("coordinate check", arXiv 2203.03466, appendix D).
"""

import pytest
from shaped_models import base_shape, shaped, trained

from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement

WIDER = ((32, 2), (64, 2), (128, 2), (256, 2))
DEEPER = ((32, 2), (32, 4), (32, 8), (32, 16))
SHAPES = tuple(dict.fromkeys(WIDER + DEEPER))
BASES = {"alpha 1": base_shape(1.0), "alpha 1/2": base_shape(0.5), "none": None}
WITH = ("alpha 1", "alpha 1/2")


@pytest.fixture(scope="module")
def runs():
    """Base to shape to (sizes, gradients)."""
    with process_groups(Placement()) as groups:
        return {
            name: {shape: trained(shaped(*shape, base), groups) for shape in SHAPES} for name, base in BASES.items()
        }


def spread(values):
    return max(values) / min(values)


@pytest.mark.parametrize("what", ["attention", "mlp", "stream", "stream change", "logits change"])
@pytest.mark.parametrize("base", WITH)
def test_sizes_are_alike_at_every_shape(runs, base, what):
    assert spread([sizes[what] for sizes, _ in runs[base].values()]) < 2


@pytest.mark.parametrize("what", ["stream change", "logits change"])
def test_without_it_they_grow_with_width(runs, what):
    sizes = [runs["none"][shape][0][what] for shape in WIDER]
    assert sizes == sorted(sizes)
    assert spread(sizes) > 3


def test_without_it_the_stream_changes_more_with_depth(runs):
    sizes = [runs["none"][shape][0]["stream change"] for shape in DEEPER]
    assert sizes == sorted(sizes)
    assert spread(sizes) > 2


@pytest.mark.parametrize("base", WITH)
def test_gradients_are_as_large_against_epsilon_at_every_shape(runs, base):
    """What epsilon's factors are for; it is where the query and key norms, and the final norm, are told from others."""
    for kind in runs[base][SHAPES[0]][1]:
        assert spread([gradients[kind] for _, gradients in runs[base].values()]) < 2, kind
