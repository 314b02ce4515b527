"""What a denoiser reads.

Shape legend: B sequences, S positions, R rows (positions whose token is asked for).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from triptych.data_pipelines.vocabulary import Modality
from triptych.kernels.philox import Stream
from triptych.models.attention.documents import PackedDocuments


@dataclass(kw_only=True, slots=True, frozen=True)
class RowKeys:
    """What draws for a micro-batch's rows are keyed by, inside the model as outside it.

    samples_B3: int64 (source id, absolute sample index, epoch), of each row's first document. copies_B: int64, which
    tells apart rows that begin with one sample.
    """

    stream: Stream
    samples_B3: Tensor
    copies_B: Tensor


@dataclass(kw_only=True, slots=True, frozen=True)
class DiffusionInputs:
    """Corrupted tokens, and where the head must predict.

    tokens_BS: int64, [MASK] where hidden. rows: int64 [R] per modality, flat indices b*S+s; a modality's logits are
    wanted at its own rows alone, over its own id range (column 0 is END, column j code j-1). Rows may be padded with
    index 0, which is a row like any other to the head. A modality that is not a key has no rows. padding_BS: bool,
    True where a position must not be attended to; None where there is no such position. documents: of rows that hold
    several, which then say what is padding, too. keys: for dropout; not needed where there is none.
    """

    tokens_BS: Tensor
    rows: Mapping[Modality, Tensor]
    padding_BS: Tensor | None
    documents: PackedDocuments | None = None
    keys: RowKeys | None = None
