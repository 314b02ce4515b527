"""The stream that is measured: one source of texts."""

from pathlib import Path

from triptych.data_pipelines.shards.reader import ShardSet
from triptych.data_pipelines.stream.benchmark.documents import ROW_LENGTH, VOCAB_SIZE
from triptych.data_pipelines.stream.mixture import Mixture, WeightedSource
from triptych.data_pipelines.stream.sequences import RegionSizes, SequenceLayout
from triptych.data_pipelines.stream.sources import TextSource
from triptych.data_pipelines.vocabulary import Vocabulary


def text_mixture(folder: Path) -> Mixture:
    """Texts of a set, in rows of ROW_LENGTH."""
    layout = SequenceLayout(
        vocabulary=Vocabulary(text=VOCAB_SIZE, image=1, audio=1),
        sequence_length=ROW_LENGTH,
        regions=RegionSizes(text=1, image=1, audio=1),
    )
    source = TextSource(ShardSet.open(folder), layout, ROW_LENGTH)
    pad = layout.vocabulary.special("pad")
    return Mixture({"text": WeightedSource(source=source, weight=1.0)}, seed=0, row_length=ROW_LENGTH, pad=pad)
