"""What text costs without a network: the marks that a model's bits per byte is held against.

Bits per byte counts UTF-8 bytes, so tokenizers of any size compare.
"""

import gzip
import math
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SEPARATOR = "\n"
DEFLATE_WINDOW_BYTES = 32768


def num_utf8_bytes(texts: Sequence[str]) -> int:
    """Bytes of all texts, nothing between them."""
    return sum(len(text.encode("utf-8")) for text in texts)


def bits_per_byte(nats: float, num_bytes: int) -> float:
    """`nats`: negative log-likelihood (or its bound) of the whole text, summed over its tokens."""
    if num_bytes < 1:
        raise ValueError("no text to measure: 0 bytes; give validation documents that are not empty")
    return nats / math.log(2) / num_bytes


def text_unigram_bits_per_byte(
    train_codes: Sequence[NDArray[np.int64]],
    validation_codes: Sequence[NDArray[np.int64]],
    num_outputs: int,
    num_bytes: int,
) -> float:
    """Ideal code length of the validation tokens under the token frequencies of the training text.

    train_codes, validation_codes: int64 arrays of ids 0..num_outputs-1, one per document; append END where the model
    must predict it too, so that both pay for the same tokens. Add-one smoothing over all `num_outputs` (Laplace), so an
    unseen token costs a finite amount. num_bytes: UTF-8 bytes of the validation text.
    """
    train, validation = (np.concatenate([*codes, np.zeros(0, np.int64)]) for codes in (train_codes, validation_codes))
    counts = np.bincount(train.astype(np.int64), minlength=num_outputs).astype(np.float64) + 1
    if len(counts) > num_outputs:
        raise ValueError(
            f"code {len(counts) - 1} is outside a vocabulary of {num_outputs}; give the sizes of one tokenizer"
        )
    log_probabilities = np.log(counts / counts.sum())
    return bits_per_byte(float(-log_probabilities[validation.astype(np.int64)].sum()), num_bytes)


def text_gzip_bits_per_byte(texts: Sequence[str]) -> float:
    """`gzip -9` of the texts joined by newlines: adapts to this text alone, having seen no training text."""
    joined = SEPARATOR.join(texts).encode("utf-8")
    return bits_per_byte(8 * len(gzip.compress(joined, compresslevel=9, mtime=0)) * math.log(2), len(joined))


def text_gzip_primed_bits_per_byte(train_texts: Sequence[str], texts: Sequence[str]) -> float:
    """As `text_gzip_bits_per_byte`, with the last 32 KiB of training text (all that DEFLATE sees) as dictionary."""
    joined = SEPARATOR.join(texts).encode("utf-8")
    primer = SEPARATOR.join(train_texts).encode("utf-8")[-DEFLATE_WINDOW_BYTES:]
    if not primer:
        return text_gzip_bits_per_byte(texts)
    compressor = zlib.compressobj(level=9, zdict=primer)
    size = len(compressor.compress(joined)) + len(compressor.flush())
    return bits_per_byte(8 * size * math.log(2), len(joined))
