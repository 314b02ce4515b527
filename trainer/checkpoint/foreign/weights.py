"""Weights that are read one whole parameter at a time, whoever wrote them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from triptych.models.sharding import Sharding

Shapes = Mapping[str, tuple[int, ...]]


class Weights(Protocol):
    """Whole parameters by the names that they have in our model."""

    @property
    def shapes(self) -> Shapes:
        """Of the whole parameters."""
        ...

    def read(self, name: str) -> Tensor:
        """The whole parameter on the CPU, not to be written to."""
        ...


@dataclass(kw_only=True, slots=True, frozen=True)
class WantedParameter:
    """A parameter of the model that is to be filled: shape of the whole, and how tensor-parallel ranks split it."""

    shape: tuple[int, ...]
    sharding: Sharding


Wanted = Mapping[str, WantedParameter]


@dataclass(kw_only=True, slots=True, frozen=True)
class ChangedWeights:
    """Weights after `change`, which keeps names and shapes."""

    origin: Weights
    change: Callable[[Tensor], Tensor]

    @property
    def shapes(self) -> Shapes:
        return self.origin.shapes

    def read(self, name: str) -> Tensor:
        return self.change(self.origin.read(name))


def require_shapes(origin: str, found: Shapes, wanted: Wanted) -> None:
    """ValueError, naming the first parameter that is missing, left over or of another shape."""
    for name in sorted(found.keys() | wanted.keys()):
        there = found.get(name, "missing")
        here = wanted[name].shape if name in wanted else "missing"
        if there != here:
            raise ValueError(
                f"{origin} is of another model than the run ({name}: {there} there, {here} in the run); give the run "
                "that it belongs to, with --run and --set"
            )


def join_parts(parts: Sequence[Tensor], sharding: Sharding) -> Tensor:
    """The whole parameter of the tensor-parallel ranks' parts, in their order."""
    if sharding.dim is None or len(parts) == 1:
        return parts[0]
    blocks = zip(*(part.chunk(sharding.stride, sharding.dim) for part in parts), strict=True)
    return torch.cat([piece for block in blocks for piece in block], sharding.dim)
