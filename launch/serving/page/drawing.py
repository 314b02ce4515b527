"""Codes that are still hidden, drawn over what they will be: hatched squares of a picture, hatched stretches of sound.

Shape legend: Y X pixels, C channels, G K rows and columns of the code grid, N codes, T frames, M mel bands.
"""

import base64
import io

import numpy as np
from numpy.typing import NDArray

ACCENT = "#e4572e"
_ACCENT_C = np.array([0xE4, 0x57, 0x2E], np.uint8)
_DARK, _LIGHT = 154, 201
_SIDE = 256  # pixels that the longer side of a small picture is enlarged to
_BAND_HEIGHT, _FRAME_WIDTH = 3, 6


def data_uri(kind: str, content: bytes) -> str:
    """A file within a page."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def png_uri(image: NDArray[np.uint8]) -> str:
    """Of uint8 [Y, X] or [Y, X, 3]."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return data_uri("image/png", buffer.getvalue())


def enlargement(shape: tuple[int, ...]) -> int:
    """How many times a picture is repeated along both sides, so that it can be looked at."""
    return max(1, _SIDE // max(shape[0], shape[1]))


def enlarged(image: NDArray[np.uint8], times: int) -> NDArray[np.uint8]:
    """Each pixel `times` x `times` times."""
    return image.repeat(times, axis=0).repeat(times, axis=1)


def drawn_picture(image: NDArray[np.uint8], hidden_GK: NDArray[np.bool_], new_GK: NDArray[np.bool_]) -> str:
    """PNG: what is hidden is hatched, what has just been revealed is framed."""
    coloured = image if image.ndim == 3 else image[..., None].repeat(3, axis=2)
    picture_YXC = enlarged(coloured, enlargement(image.shape))
    rows = np.arange(picture_YXC.shape[0]) * hidden_GK.shape[0] // picture_YXC.shape[0]
    columns = np.arange(picture_YXC.shape[1]) * hidden_GK.shape[1] // picture_YXC.shape[1]
    hidden_YX, new_YX = hidden_GK[rows][:, columns], new_GK[rows][:, columns]
    edge_YX = _edges(rows)[:, None] | _edges(columns)[None]
    picture_YXC[hidden_YX] = _hatching(hidden_YX.shape)[hidden_YX][:, None]
    picture_YXC[new_YX & edge_YX] = _ACCENT_C
    return png_uri(picture_YXC)


def drawn_sound(
    levels_TM: NDArray[np.floating], hidden_N: NDArray[np.bool_], new_N: NDArray[np.bool_], ended_N: NDArray[np.bool_]
) -> str:
    """PNG of a spectrogram in -1..1, low frequencies at the bottom; each code has its share of the frames, those that
    are past the end are white.
    """
    from matplotlib import colormaps

    levels_MT = np.clip((levels_TM.T[::-1] + 1) / 2, 0, 1)
    picture_YXC = np.asarray(colormaps["magma"](levels_MT, bytes=True))[..., :3]
    picture_YXC = picture_YXC.repeat(_BAND_HEIGHT, axis=0).repeat(_FRAME_WIDTH, axis=1)
    codes_X = np.arange(picture_YXC.shape[1]) * len(hidden_N) // picture_YXC.shape[1]
    hatching_YX = _hatching(picture_YXC.shape[:2])
    picture_YXC[:, hidden_N[codes_X]] = hatching_YX[:, hidden_N[codes_X]][..., None]
    picture_YXC[:, ended_N[codes_X]] = 255
    picture_YXC[-_BAND_HEIGHT * 2 :, new_N[codes_X]] = _ACCENT_C
    return png_uri(np.ascontiguousarray(picture_YXC))


def _hatching(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return np.where((rows + columns) % 12 < 6, _DARK, _LIGHT).astype(np.uint8)


def _edges(cells: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Where a cell begins or ends, two pixels wide."""
    changes = np.concatenate([[True], cells[1:] != cells[:-1], [True]])
    starts, ends = changes[:-1], changes[1:]
    return starts | ends | np.roll(starts, 1) | np.roll(ends, -1)
