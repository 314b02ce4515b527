"""Which part of the model a process runs, and how it runs it: nothing here changes what is computed."""

from dataclasses import dataclass
from typing import Literal

Recompute = Literal["none", "selective", "full"]
"""Activations made again in the backward pass: "selective", core attention's (Korthikanti et al. 2022, arXiv
2205.05198, section 5; worth little where the kernel keeps no scores); "full", all but each layer's input.
"""


@dataclass(kw_only=True, slots=True, frozen=True)
class Execution:
    """layers: numbers of this chunk's layers in the whole model; None is all. The chunk with layer 0 embeds, the one
    with the last layer reads out. sequence_parallel: activations between the tensor-parallel regions are split along
    the sequence.
    """

    layers: range | None = None
    sequence_parallel: bool = False
    recompute: Recompute = "none"
