"""A trained run, ready to generate."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from triptych.configs.token_data import Tokenizers, load_tokenizers
from triptych.configs.tree import with_settings
from triptych.configs.trimodal import TrimodalRun
from triptych.data_pipelines.shards.decode import DecodeConfig
from triptych.data_pipelines.tokenizers.protocol import Tokenizer
from triptych.kernels.philox import Stream
from triptych.launch.run_directory import RunDirectory
from triptych.models.diffusion.sampling import Sampler
from triptych.trainer.averages.config import WEIGHTS, part_of_weights, require_weights
from triptych.trainer.checkpoint.disk.document import read_document
from triptych.trainer.checkpoint.disk.reading import read_part
from triptych.trainer.checkpoint.loading import require_identity, require_parameters
from triptych.trainer.generation import Codes, Generator
from triptych.trainer.parallel.groups import Groups, process_groups
from triptych.trainer.parallel.placement import Placement


@dataclass(kw_only=True, slots=True, frozen=True)
class Trained:
    """A run's settings, its tokenizers, and a generator over its newest checkpoint. weights: which of its weights."""

    run: TrimodalRun
    tokenizers: Tokenizers
    generator: Generator
    tokens: int
    weights: str


@contextmanager
def open_trained(
    directory: RunDirectory, settings: Sequence[str], seed: int, weights: str = WEIGHTS
) -> Iterator[Trained]:
    """Load a run from its directory, with its weights or the average of that name. ValueError for a missing, damaged or
    foreign checkpoint or tokenizer, or a name that the checkpoint does not have.
    """
    run = with_settings(directory.read(), settings)
    with process_groups(Placement()) as groups:
        yield load_trained(directory, run, groups, seed, weights)


def load_trained(
    directory: RunDirectory, run: TrimodalRun, groups: Groups, seed: int, weights: str = WEIGHTS
) -> Trained:
    """As `open_trained`, within process groups that are open."""
    tokenizers = load_tokenizers(run.data_folder)
    part = part_of_weights(weights)
    folder = directory.newest_checkpoint(part)
    document = read_document(folder)
    require_identity(folder, document.header.identity, run.identity(tokenizers))
    model = run.build_model(groups)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    require_weights(weights, document.index, folder)
    require_parameters(folder, document, {part: shapes})
    model.load_state_dict(
        read_part(folder, part), strict=False
    )  # megatron-core's empty `_extra_state` entries are in no checkpoint
    model.to(groups.device).eval()
    generator = Generator(
        model=model,
        sampler=Sampler(run.sampling, run.model.vocabulary),
        layout=run.layout,
        stream=Stream(seed=seed),
        device=groups.device,
        batch_size=run.evaluation.batch_size,
    )
    return Trained(run=run, tokenizers=tokenizers, generator=generator, tokens=document.header.tokens, weights=weights)


def codes_of(tokenizer: Tokenizer, name: str, raw: Any, room: int) -> Codes:
    """Codes of an input. ValueError, naming it, if the tokenizer does not take it or it has more than `room`."""
    try:
        (codes,) = tokenizer.encode([raw])
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if len(codes) > room:
        raise ValueError(f"{name} takes {len(codes)} {tokenizer.modality} codes, the run has {room}; shorten it")
    return codes


def audio_rate(tokenizers: Tokenizers) -> int:
    """Samples per second of the recordings that a run takes and makes."""
    return getattr(tokenizers["audio"], "sample_rate_hertz", DecodeConfig().sample_rate_hertz)
