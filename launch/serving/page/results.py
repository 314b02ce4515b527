"""What has been made, as HTML."""

from collections.abc import Sequence
from html import escape

from triptych.launch.report.data import Clip
from triptych.launch.report.media import spectrogram_uri
from triptych.launch.serving.media import Sample
from triptych.launch.serving.page.drawing import data_uri

_WIDTH = 136  # pixels that a small picture is shown at


def shown(samples: Sequence[Sample], sample_rate_hertz: int, name: str) -> str:
    """Samples side by side: text to copy, pictures enlarged pixel by pixel, recordings to play. name: of files."""
    figures = [_shown(sample, sample_rate_hertz, f"{name}-{i:03d}") for i, sample in enumerate(samples)]
    return f"<div class=made>{''.join(figures)}</div>"


def _shown(sample: Sample, sample_rate_hertz: int, name: str) -> str:
    if sample.content_type == "text/plain":
        return f"<p class='written made-text'>{escape(sample.raw)}</p>"
    uri = data_uri(sample.content_type, sample.content)
    if sample.content_type == "image/png":
        height, width = sample.raw.shape[:2]
        caption = f"{width} x {height} <a href='{uri}' download='{name}.png'>save</a>"
        picture = f"<img style='width:{max(_WIDTH, width)}px' src='{uri}' alt='made'>"
        return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"
    link = f"<a href='{uri}' download='{name}.wav'>save</a>"
    seconds = len(sample.raw) / sample_rate_hertz
    if not len(sample.raw):
        return "<figure class=wide><figcaption>silence: it ended at once</figcaption></figure>"
    picture = spectrogram_uri(Clip(samples=sample.raw, sample_rate_hertz=sample_rate_hertz))
    return (
        f"<figure class=wide><img src='{picture}' alt='spectrogram'><audio controls src='{uri}'></audio>"
        f"<figcaption>{seconds:.2f} s {link}</figcaption></figure>"
    )
