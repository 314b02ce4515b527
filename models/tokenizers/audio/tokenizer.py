"""A pretrained audio codec as a tokenizer.

Shape legend: B clips, S samples, K codebooks, T frames.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from triptych.data_pipelines.vocabulary import Modality
from triptych.models.tokenizers import pretrained
from triptych.models.tokenizers.audio.codecs import AudioCodec, DacCodec, EncodecCodec, HiggsAudioCodec, MimiCodec
from triptych.models.tokenizers.audio.patterns import Arrangement, CodebookPattern
from triptych.models.tokenizers.pretrained import Architecture, Precision

AudioKind = Literal["mimi", "dac", "encodec", "higgs_audio_v2"]
AUDIO_KINDS: tuple[AudioKind, ...] = get_args(AudioKind)
ARCHITECTURES: dict[AudioKind, Architecture] = {
    "mimi": Architecture(library="transformers", model_class="MimiModel", name="mimi"),
    "dac": Architecture(library="transformers", model_class="DacModel", name="dac"),
    "encodec": Architecture(library="transformers", model_class="EncodecModel", name="encodec"),
    "higgs_audio_v2": Architecture(
        library="transformers", model_class="HiggsAudioV2TokenizerModel", name="higgs_audio_v2_tokenizer"
    ),
}
_CODECS = {"mimi": MimiCodec, "dac": DacCodec, "encodec": EncodecCodec, "higgs_audio_v2": HiggsAudioCodec}
_NUM_CLIPS_AT_ONCE = 32
_MAX_SECONDS_AT_ONCE = 320.0  # of padded audio: what bounds the memory of a batch


@dataclass(kw_only=True, slots=True, frozen=True)
class AudioCodecConfig:
    """sample_rate_hertz: of the raw audio; it is resampled to the codec's own. codebooks: how those of a frame become
    one stream. num_codebooks: only the first so many, the coarsest. precision: in float64 the make-up of a batch moves
    no code but for ties within the codec's own float32 steps; float32 is faster.
    """

    kind: AudioKind
    sample_rate_hertz: int
    codebooks: Arrangement
    num_codebooks: int
    precision: Precision


def wrap(kind: AudioKind, model: Any, folder: Path) -> AudioCodec:
    """A model as a codec. ValueError, naming the folder, if it is one that cannot be used."""
    try:
        return _CODECS[kind](model)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None


class AudioCodecTokenizer:
    """float32 clips [S] in -1..1, at `sample_rate_hertz`, to one stream of codes each. Implements `Tokenizer`.

    A clip is resampled (soxr, high quality) and filled with zeros up to a whole frame, so T follows from its length and
    nothing else. Clips of one length share a batch, clips of several where the codec is causal (`min_shared_frames`).
    Decoding gives T frames, at `sample_rate_hertz`; any codes decode (`CodebookPattern.codes_of`).
    """

    modality: Modality = "audio"

    def __init__(
        self, config: AudioCodecConfig, codec: AudioCodec, fingerprint: str, folder: Path, device: str
    ) -> None:
        self.config = config
        self.fingerprint = fingerprint
        self.pattern = CodebookPattern(
            arrangement=config.codebooks, num_codebooks=config.num_codebooks, codebook_size=codec.codebook_size
        )
        self._codec = codec
        self._folder = folder
        self._device = device
        self._dtype = torch.float64 if config.precision == "float64" else torch.float32

    @property
    def vocab_size(self) -> int:
        """Ids of a stream, the filler counted."""
        return self.pattern.vocab_size

    @property
    def sample_rate_hertz(self) -> int:
        """Of raw audio, taken and given."""
        return self.config.sample_rate_hertz

    def num_frames(self, num_samples: int) -> int:
        """T of a clip of so many samples at `sample_rate_hertz`."""
        return -(-_rescaled(num_samples, self.config.sample_rate_hertz, self._codec) // self._codec.samples_per_frame)

    @torch.no_grad()
    def encode(self, raw: Sequence[NDArray[np.float32]]) -> list[NDArray[np.int64]]:
        """int64 [N] of each clip; an empty one has none. ValueError unless it is float32, finite and of one axis."""
        _check(raw)
        codes = [np.zeros(0, dtype=np.int64) for _ in raw]
        for some in self._batches([self.num_frames(len(clip)) for clip in raw], self._codec.min_shared_frames):
            num_frames_B = [self.num_frames(len(raw[index])) for index in some]
            wave_BS = np.zeros((len(some), max(num_frames_B) * self._codec.samples_per_frame), np.float32)
            for row_S, index in zip(wave_BS, some, strict=True):
                clip = _resampled(raw[index], self.config.sample_rate_hertz, self._codec.sample_rate_hertz)
                row_S[: len(clip)] = clip[: len(row_S)]
            wave_B1S = torch.from_numpy(wave_BS)[:, None].to(self._device, self._dtype)
            codes_BKT = self._codec.encode(wave_B1S, self.config.num_codebooks).cpu().numpy()
            for index, codes_KT, num_frames in zip(some, codes_BKT, num_frames_B, strict=True):
                codes[index] = self.pattern.stream(codes_KT[:, :num_frames].astype(np.int64))
        return codes

    @torch.no_grad()
    def decode(self, codes: Sequence[NDArray[np.int64]]) -> list[NDArray[np.float32]]:
        """float32 of each stream, T frames long at `sample_rate_hertz`. Streams of one length share a batch."""
        clips = [np.zeros(0, dtype=np.float32) for _ in codes]
        codes_KT = [self.pattern.codes_of(stream) for stream in codes]
        for some in self._batches([stack.shape[1] for stack in codes_KT], None):
            codes_BKT = torch.from_numpy(np.stack([codes_KT[index] for index in some])).to(self._device)
            wave_BS = self._codec.decode(codes_BKT).float().cpu().numpy()
            for index, wave_S in zip(some, wave_BS, strict=True):
                clips[index] = self._waveform(wave_S, codes_KT[index].shape[1])
        return clips

    def _waveform(self, wave_S: NDArray[np.float32], num_frames: int) -> NDArray[np.float32]:
        """At our rate. A codec with odd strides gives a few samples less than its frames are long: zeros follow."""
        whole_S = np.zeros(num_frames * self._codec.samples_per_frame, np.float32)
        length = min(len(wave_S), len(whole_S))
        whole_S[:length] = wave_S[:length]
        return np.clip(_resampled(whole_S, self._codec.sample_rate_hertz, self.config.sample_rate_hertz), -1, 1)

    def _batches(self, num_frames: Sequence[int], min_shared_frames: int | None) -> Iterator[list[int]]:
        """Indices of clips that go through the codec together, shortest first; empty ones in none."""
        seconds_per_frame = self._codec.samples_per_frame / self._codec.sample_rate_hertz
        batch: list[int] = []
        for index in sorted(np.flatnonzero(num_frames).tolist(), key=lambda index: num_frames[index]):
            shortest, longest = num_frames[batch[0]] if batch else 0, num_frames[index]
            together = shortest == longest or (min_shared_frames is not None and shortest >= min_shared_frames)
            seconds = (len(batch) + 1) * longest * seconds_per_frame
            if batch and (not together or len(batch) == _NUM_CLIPS_AT_ONCE or seconds > _MAX_SECONDS_AT_ONCE):
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch

    def save(self, folder: Path) -> None:
        """Copy config.json and model/ from where they were read."""
        pretrained.copy_folder(self._folder, folder)

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        """Read an adopted folder. ValueError, naming the file, if it is missing or damaged."""
        config, fingerprint = pretrained.read_config(folder, AudioCodecConfig)
        model = pretrained.load_model(ARCHITECTURES[config.kind], folder / pretrained.MODEL_FOLDER)
        codec = wrap(config.kind, model, folder)
        require_fields(config, codec, folder)
        codec.move(config.precision, device)
        return cls(config, codec, fingerprint, folder, device)


def require_fields(config: AudioCodecConfig, codec: AudioCodec, folder: Path) -> None:
    """ValueError if the codec has not so many codebooks, or the sample rate is none."""
    if not codec.min_codebooks <= config.num_codebooks <= codec.max_codebooks:
        raise ValueError(
            f"{folder} has {codec.min_codebooks} to {codec.max_codebooks} codebooks, not "
            f"{config.num_codebooks}; choose num_codebooks among them"
        )
    if config.sample_rate_hertz < 1:
        raise ValueError(f"sample_rate_hertz={config.sample_rate_hertz} is no rate; give that of the raw audio")


def _check(clips: Sequence[NDArray[np.float32]]) -> None:
    for index, clip in enumerate(clips):
        if clip.ndim != 1 or clip.dtype != np.float32 or not np.isfinite(clip).all():
            found = f"{clip.dtype} {list(clip.shape)}"
            raise ValueError(f"clip {index} is {found}, the tokenizer takes finite float32 [samples]; convert it first")


def _rescaled(num_samples: int, rate: int, codec: AudioCodec) -> int:
    """Samples of a clip at the codec's rate, rounded up."""
    return -(-num_samples * codec.sample_rate_hertz // rate)


def _resampled(clip: NDArray[np.float32], rate: int, wanted: int) -> NDArray[np.float32]:
    if rate == wanted or len(clip) == 0:
        return clip
    import soxr

    return soxr.resample(clip, rate, wanted, quality="HQ")
