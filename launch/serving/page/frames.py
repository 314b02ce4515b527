"""A canvas after every sampling step, as HTML."""

from html import escape
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from triptych.data_pipelines.vocabulary import Modality
from triptych.launch.serving.holes import grid_of
from triptych.launch.serving.page.drawing import drawn_picture, drawn_sound
from triptych.launch.serving.service import Progress
from triptych.launch.trained import Trained
from triptych.trainer.generation import Snapshot

_NUM_SHOWN = 4  # of a batch: a frame of more is heavy, and all of them are kept for the slider


class Frames:
    """Draws the states of one job, in their order."""

    def __init__(self, trained: Trained, modality: Modality) -> None:
        self._tokenizer = trained.tokenizers[modality]
        self._draw = {"text": self._text, "image": self._image, "audio": self._audio}[modality]
        self._before: list[NDArray[np.bool_]] = []
        self._last_step = 0

    def frame(self, progress: Progress) -> str:
        """HTML of the first samples of a batch; what was revealed at this step is marked."""
        shown = progress.snapshots[:_NUM_SHOWN]
        if progress.step <= self._last_step or not self._before:
            self._before = [np.ones_like(snapshot.hidden) for snapshot in shown]
        news = [before & ~one.hidden for before, one in zip(self._before, shown, strict=True)]
        if progress.step == 1:  # what was given is not new, and cannot be told from what the first step made
            news = [np.zeros_like(new) for new in news]
        drawn = "".join(self._draw(one, new) for one, new in zip(shown, news, strict=True))
        self._before, self._last_step = [one.hidden for one in shown], progress.step
        left = sum(int(one.hidden.sum()) for one in shown)
        places = sum(len(one.hidden) for one in shown)
        caption = f"step {progress.step} of {progress.num_steps}: {left} of {places} places hidden"
        return f"<div class=count>{caption}</div><div class=canvases>{drawn}</div>"

    def _text(self, snapshot: Snapshot, new: NDArray[np.bool_]) -> str:
        parts, place = [], 0
        for (hidden, ended, fresh), group in groupby(zip(snapshot.hidden, snapshot.ended, new, strict=True)):
            number = len(list(group))
            if hidden:
                parts.append("<span class=hidden></span>" * number)
            elif ended:
                parts.append("<span class=ended>&#9632;</span>" * number)
            else:
                (text,) = self._tokenizer.decode([snapshot.codes[place : place + number]])
                parts.append(f"<span class=new>{escape(text)}</span>" if fresh else escape(text))
            place += number
        return f"<p class=written>{''.join(parts)}</p>"

    def _image(self, snapshot: Snapshot, new: NDArray[np.bool_]) -> str:
        (image,) = self._tokenizer.decode([snapshot.codes])
        grid = grid_of(len(snapshot.codes), image.shape)
        return _figure(drawn_picture(image, snapshot.hidden.reshape(grid), new.reshape(grid)), "")

    def _audio(self, snapshot: Snapshot, new: NDArray[np.bool_]) -> str:
        ended = np.logical_or.accumulate(snapshot.ended)  # what is behind an END is not heard
        uri = drawn_sound(self._levels(snapshot.codes), snapshot.hidden & ~ended, new & ~ended, ended)
        return _figure(uri, "wide")

    def _levels(self, codes: NDArray[np.int64]) -> NDArray[np.floating]:
        """[frames, bands] in about -1..1: the tokenizer's own where it has them, for phases take long to find."""
        own = getattr(self._tokenizer, "decode_log_mels", None)
        if own is not None:
            return own([codes])[0]
        import librosa

        (wave,) = self._tokenizer.decode([codes])
        power = librosa.feature.melspectrogram(y=np.pad(wave, (0, 2048)), n_fft=1024, hop_length=256, n_mels=64)
        return np.clip(librosa.power_to_db(power, ref=np.max) / 32.5 + 1, -1, 1).T


def _figure(uri: str, kind: str) -> str:
    return f"<figure class='{kind}'><img src='{uri}' alt='the canvas'></figure>"
