"""Judges: which digit does an image show, which digit does a recording say?

A judge learns from real training data alone and states its own accuracy on real held-out data, which bounds how far its
verdicts can be trusted. It is cheap enough to be retrained at every evaluation (seconds on one core), so it is never
stored.

Shape legend: B items, H height, W width, T frames, M mel bands, F features.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from triptych.trainer.evaluation.proportions import Proportion
from triptych.trainer.evaluation.spectra import speech_features

UNDECIDED = -1
"""The verdict on what holds no signal at all (an empty array, silence, a uniform image): never right."""

Features = Callable[[Sequence[NDArray[Any]]], tuple[NDArray[np.float64], NDArray[np.bool_]]]


@dataclass(kw_only=True, slots=True, frozen=True)
class Judge:
    """A digit classifier over items of one modality.

    features: items to (float64 [B, F], bool [B] "holds a signal"). classifier: a fitted scikit-learn classifier over F.
    accuracy: on the real held-out items.
    """

    features: Features
    classifier: Any
    accuracy: Proportion

    def verdicts(self, items: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
        """int64 [B]: the digit of each item, or UNDECIDED."""
        return _verdicts(self.features, self.classifier, items)

    def share_right(self, items: Sequence[NDArray[Any]], digits: Sequence[int]) -> Proportion:
        """How many items are judged to be the digit wanted. ValueError if there are none."""
        return Proportion.of(self.verdicts(items) == np.asarray(digits))


def image_features(
    images: Sequence[NDArray[Any]], size: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Pixels of [H, W] or [H, W, 3] images as float64 [B, H*W], each image stretched to 0..1.

    Not-a-number counts as black. The stretch makes the verdict independent of exposure, which is no part of the digit.
    ValueError if an image is not of `size` (H, W).
    """
    grey = [np.nan_to_num(np.asarray(image, np.float64), nan=0.0, posinf=255.0, neginf=0.0) for image in images]
    grey = [image.mean(axis=-1) if image.ndim == 3 else image for image in grey]
    if wrong := {image.shape for image in grey if image.shape != size}:
        raise ValueError(f"an image of {wrong.pop()} pixels, but the judge learnt {size}; give images of one size")
    pixels_BF = np.stack(grey).reshape(len(grey), -1)
    low_B1, span_B1 = pixels_BF.min(1, keepdims=True), np.ptp(pixels_BF, axis=1, keepdims=True)
    return (pixels_BF - low_B1) / np.maximum(span_B1, 1e-9), span_B1[:, 0] > 0


def train_image_judge(
    images: Sequence[NDArray[Any]],
    digits: Sequence[int],
    held_out_images: Sequence[NDArray[Any]],
    held_out_digits: Sequence[int],
) -> Judge:
    """A support vector machine over pixels. All images uint8 of one size; digits 0..9."""
    size = tuple(images[0].shape[:2])

    def features(items: Sequence[NDArray[Any]]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        return image_features(items, size)

    return _train(features, SVC(C=10.0, gamma="scale"), (images, digits), (held_out_images, held_out_digits))


def train_speech_judge(
    clips: Sequence[NDArray[Any]],
    digits: Sequence[int],
    held_out_clips: Sequence[NDArray[Any]],
    held_out_digits: Sequence[int],
    sample_rate_hertz: int = 16000,
) -> Judge:
    """A support vector machine over standardised log-mel spectrograms. Clips float [samples] in -1..1; digits 0..9."""

    def features(items: Sequence[NDArray[Any]]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        return speech_features(items, sample_rate_hertz)

    # Of 1281 features; the rest is mostly noise and time. No more than the clips there are.
    num_components = min(120, len(clips) - 1)
    classifier = make_pipeline(StandardScaler(), PCA(num_components, random_state=0), SVC(C=10.0, gamma="scale"))
    return _train(features, classifier, (clips, digits), (held_out_clips, held_out_digits))


def _train(features: Features, classifier: Any, train: tuple[Any, Any], held_out: tuple[Any, Any]) -> Judge:
    (items, digits), (held_out_items, held_out_digits) = train, held_out
    if len(items) != len(digits) or len(set(digits)) < 2:
        wrong = f"{len(items)} items with {len(digits)} labels of {len(set(digits))} digits do not teach a judge"
        raise ValueError(f"{wrong}; give one label to each item, and at least two digits")
    inputs_BF, heard_B = features(items)
    classifier.fit(inputs_BF[heard_B], np.asarray(digits)[heard_B])
    accuracy = Proportion.of(_verdicts(features, classifier, held_out_items) == np.asarray(held_out_digits))
    return Judge(features=features, classifier=classifier, accuracy=accuracy)


def _verdicts(features: Features, classifier: Any, items: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    verdicts_B = np.full(len(items), UNDECIDED, np.int64)
    if len(items):
        inputs_BF, heard_B = features(items)
        if heard_B.any():
            verdicts_B[heard_B] = classifier.predict(inputs_BF[heard_B])
    return verdicts_B
