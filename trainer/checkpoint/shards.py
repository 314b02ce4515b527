"""What one rank holds of a run's state, said in coordinates that know no layout: boxes of whole parameters."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(kw_only=True, slots=True, frozen=True)
class Box:
    """A rectangular part of a whole parameter, and the memory of this rank that holds it.

    offsets, sizes: one number per dimension of the whole. tensor: of shape `sizes`, a view that may be written.
    """

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    tensor: Tensor


@dataclass(kw_only=True, slots=True, frozen=True)
class Held:
    """Everything that this rank holds of one tensor of the state: disjoint boxes, none at all included.

    shape: of the whole. Ranks may hold the same box; it is then equal on all of them.
    """

    shape: tuple[int, ...]
    boxes: tuple[Box, ...]


State = Mapping[str, Mapping[str, Held]]
"""Part ("weights", "exp_avg", "exp_avg_sq", ...) to parameter name to what this rank holds. Ranks may know different
names; together they cover every box of every name.
"""
