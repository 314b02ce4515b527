"""Audio codecs of `transformers`, each behind the same few lines.

Shape legend: B clips, S samples, K codebooks, T frames.
"""

import math
from typing import Any, Protocol

from torch import Tensor

from triptych.models.tokenizers.pretrained import Precision, move


class AudioCodec(Protocol):
    """A codec in evaluation mode. samples_per_frame: at its own sample rate.

    min_shared_frames: clips of several lengths may share a batch if each has so many frames: the codec is causal, so
    that zeros behind a clip of whole frames change no code of it. None: never. Where convolutions look ahead, what the
    network makes of zeros (its biases) is not what it sees behind the end of a clip, and the last codes would differ.
    """

    sample_rate_hertz: int
    samples_per_frame: int
    max_codebooks: int
    min_codebooks: int
    codebook_size: int
    min_shared_frames: int | None

    def encode(self, wave_B1S: Tensor, num_codebooks: int) -> Tensor:
        """int64 [B, K, T]: the first codebooks, the coarsest ones."""
        ...

    def decode(self, codes_BKT: Tensor) -> Tensor:
        """float [B, samples], about T frames of them."""
        ...

    def move(self, precision: Precision, device: str) -> None:
        """Compute in this precision on this device."""
        ...


class _Codec:
    """What the codecs share: a model, given whole."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def move(self, precision: Precision, device: str) -> None:
        move(self._model, precision, device)


class MimiCodec(_Codec):
    """Mimi (arXiv 2410.00037): causal convolutions, causal attention."""

    def __init__(self, model: Any) -> None:
        """ValueError unless the model is mono."""
        super().__init__(model)
        config = model.config
        _require_mono(config.audio_channels)
        self.sample_rate_hertz = int(config.sampling_rate)
        self.samples_per_frame = int(config.frame_size)
        self.max_codebooks = int(config.num_quantizers)
        self.min_codebooks = int(config.num_semantic_quantizers)
        self.codebook_size = int(config.codebook_size)
        self.min_shared_frames = _min_shared_frames(config)

    def encode(self, wave_B1S: Tensor, num_codebooks: int) -> Tensor:
        return self._model.encode(wave_B1S, num_quantizers=num_codebooks).audio_codes

    def decode(self, codes_BKT: Tensor) -> Tensor:
        return self._model.decode(codes_BKT).audio_values[:, 0]


class DacCodec(_Codec):
    """DAC (arXiv 2306.06546): convolutions that look both ways."""

    min_shared_frames = None
    min_codebooks = 1

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        config = model.config
        self.sample_rate_hertz = int(config.sampling_rate)
        self.samples_per_frame = int(config.hop_length)
        self.max_codebooks = int(config.n_codebooks)
        self.codebook_size = int(config.codebook_size)

    def encode(self, wave_B1S: Tensor, num_codebooks: int) -> Tensor:
        return self._model.encode(wave_B1S, n_quantizers=num_codebooks).audio_codes

    def decode(self, codes_BKT: Tensor) -> Tensor:
        return self._model.decode(audio_codes=codes_BKT).audio_values


class EncodecCodec(_Codec):
    """EnCodec (arXiv 2210.13438), the causal kind at 24 kHz.

    The one at 48 kHz is refused: it is stereo, and cuts a clip into overlapping pieces with a loudness each, which are
    no codes.
    """

    min_codebooks = 1

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        config = model.config
        _require_mono(config.audio_channels)
        if config.normalize or config.chunk_length_s is not None:
            raise ValueError("this EnCodec scales or cuts clips, and the scales are no codes; use the 24 kHz kind")
        self._bandwidths = list(config.target_bandwidths)
        self.sample_rate_hertz = int(config.sampling_rate)
        self.samples_per_frame = int(config.hop_length)
        self.max_codebooks = _widest(config)
        self.codebook_size = int(config.codebook_size)
        whole = config.norm_type != "weight_norm"  # a norm over time looks at the whole clip
        self.min_shared_frames = None if whole else _min_shared_frames(config)

    def encode(self, wave_B1S: Tensor, num_codebooks: int) -> Tensor:
        codes = self._model.encode(wave_B1S, bandwidth=self._bandwidths[-1]).audio_codes
        return codes[0][:, :num_codebooks]  # residual: the first codes of the widest band are those of a narrower

    def decode(self, codes_BKT: Tensor) -> Tensor:
        return self._model.decode(codes_BKT[None], [None]).audio_values[:, 0]


class HiggsAudioCodec(_Codec):
    """The tokenizer of Higgs Audio v2: DAC's convolutions and HuBERT's features, which look both ways."""

    min_shared_frames = None
    min_codebooks = 1

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        config = model.config
        self.sample_rate_hertz = int(config.sample_rate)
        self.samples_per_frame = int(config.hop_length)
        self.max_codebooks = _widest(config)
        self.codebook_size = int(config.codebook_size)

    def encode(self, wave_B1S: Tensor, num_codebooks: int) -> Tensor:
        return self._model.encode(wave_B1S).audio_codes[:, :num_codebooks]

    def decode(self, codes_BKT: Tensor) -> Tensor:
        return self._model.decode(codes_BKT).audio_values[:, 0]


def _require_mono(num_channels: int) -> None:
    if num_channels != 1:
        raise ValueError(f"this codec takes {num_channels} channels, raw audio has one; give a mono codec")


def _widest(config: Any) -> int:
    """Codebooks of the widest band, in the floating point of the models: 0.3 over 0.1 is 2 there."""
    kilobits_per_codebook = math.log2(config.codebook_size) * config.frame_rate / 1000
    return max(1, min(int(config.num_quantizers), math.floor(config.target_bandwidths[-1] / kilobits_per_codebook)))


def _min_shared_frames(config: Any) -> int | None:
    """Of convolutions as Mimi's and EnCodec's. None if they look ahead.

    Causal ones that reflect a clip's start need it to be longer than what they reflect; the codec helps itself where it
    is shorter, which zeros behind it would change. The layer at the rate of frames has the fewest steps.
    """
    if not config.use_causal_conv:
        return None
    if config.pad_mode != "reflect":
        return 1
    dilated = (config.residual_kernel_size - 1) * config.dilation_growth_rate ** (config.num_residual_layers - 1) + 1
    return max(config.kernel_size, config.last_kernel_size, dilated)
