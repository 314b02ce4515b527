"""Mask types, windows and padding masks in Transformer Engine's words, as bands and stretches of rows.

Shape legend: B rows, S positions.
"""

import warnings

import torch
from torch import Tensor

from triptych.kernels.flash_sigmoid.problem import Band

MASK_TYPES = ("no_mask", "padding", "causal", "padding_causal", "causal_bottom_right", "padding_causal_bottom_right")


def canonical_mask_type(name: str) -> str:
    """One of `MASK_TYPES`, whose words may be joined by commas. ValueError, naming attn_mask_type, for another."""
    name = name.replace(",", "_")
    name = "padding_causal" if name == "causal_padding" else name
    if name == "arbitrary":
        raise ValueError(
            "attn_mask_type is 'arbitrary', and sigmoid attention masks no single pairs; give one of "
            + ", ".join(MASK_TYPES)
        )
    if name not in MASK_TYPES:
        raise ValueError(f"attn_mask_type is {name!r}; give one of {', '.join(MASK_TYPES)}")
    return name


def band_of(mask_type: str, window_size: tuple[int, int] | None, bottom_right_diagonal: bool | None) -> Band:
    """The keys that a query sees. A causal type overrules the window's right side and the diagonal's corner; a type
    that is not takes (-1, 0), which says causal elsewhere, as no window. Both with a warning, as in Transformer Engine.
    """
    left, right = _window(mask_type, window_size)
    top_left = bottom_right_diagonal is False
    if "causal" in mask_type:
        top_left = not mask_type.endswith("bottom_right")
    return Band(left=left, right=right, alignment="top_left" if top_left else "bottom_right")


def _window(mask_type: str, window_size: tuple[int, int] | None) -> tuple[int, int]:
    causal = "causal" in mask_type
    if window_size is None:
        return (-1, 0) if causal else (-1, -1)
    left, right = window_size
    fitting = (-1, 0) if causal else (-1, -1)
    takes = left >= 0 and (right == 0 if causal else right >= 0)
    if (left, right) == fitting or takes:
        return left, right
    if (left, right) == (-1, -1) or (left, right) == (-1, 0) or (causal and left >= 0):
        coerced = (left, 0) if causal else (-1, -1)
        # The line of whoever calls the module: this function, band_of, forward, and torch's two on the way.
        warnings.warn(f"window_size {(left, right)} with {mask_type} is taken as {coerced}", stacklevel=6)
        return coerced
    ways = "(-1, 0) or (n, 0)" if causal else "(-1, -1) or (n, m)"
    raise ValueError(f"window_size is {(left, right)} with attn_mask_type {mask_type}; give {ways}")


def stretches_of(name: str, masked_B11S: Tensor, num_rows: int, num_positions: int) -> tuple[Tensor, Tensor]:
    """First position and number of positions of each row that are not masked out, [B] each. masked_B11S: bool, True
    where a position is padding.

    The positions of a row that are not padding lie together, at its beginning or after padding on the left. ValueError
    otherwise where looking costs nothing, on a CPU.
    """
    expected = [num_rows, 1, 1, num_positions]
    if masked_B11S.dtype != torch.bool or list(masked_B11S.shape) != expected:
        raise ValueError(
            f"{name} is {masked_B11S.dtype} {list(masked_B11S.shape)}; give bool {expected}, True where padded"
        )
    visible_BS = ~masked_B11S[:, 0, 0]
    num_B = visible_BS.sum(1)
    first_B = visible_BS.int().argmax(1)
    if not masked_B11S.is_cuda and not torch.compiler.is_compiling():
        place_S = torch.arange(num_positions)
        together_BS = (place_S >= first_B[:, None]) & (place_S < (first_B + num_B)[:, None])
        if not torch.equal(together_BS, visible_BS):
            raise ValueError(f"{name} has padding between positions that are none; put it at one end of the row")
    return first_B, num_B
