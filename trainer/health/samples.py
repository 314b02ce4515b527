"""Which samples a batch was of, as the logs name them."""

from collections.abc import Iterable
from typing import Any

from triptych.data_pipelines.stream.windows import source_id
from triptych.trainer.loader.losses import LossyRows


def sample_ids(rows: Any, sources: Iterable[str]) -> list[dict[str, Any]]:
    """Source, epoch, sample and where in it the piece begins, of every document of this rank's rows, copies of a row
    once. sources: names that are known; another source is named by its number. Rows without ids have none.
    """
    if not isinstance(rows, LossyRows):
        return []
    names = {source_id(name): name for name in sources}
    found = []
    there_BD = (rows.lengths_BD > 0) & (rows.copies_B == 0)[:, None]
    for row, document in there_BD.nonzero().tolist():
        source, sample, epoch = rows.samples_BD3[row, document].tolist()
        offset = int(rows.offsets_BD[row, document])
        found.append({"source": names.get(source, source), "epoch": epoch, "sample": sample, "offset": offset})
    return found
