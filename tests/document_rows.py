"""Made-up batches: a document to a row, and the same documents several to a row."""

import torch

from triptych.data_pipelines.batch import Batch, Role


def one_each(tokens_BS, roles_BS, samples_B3, *, copies_B=None, numbers_B=None, lengths_B=None):
    """A row for each document, which ends where the padding begins, or after `lengths_B`."""
    nought_B = torch.zeros(len(tokens_BS), dtype=torch.int64)
    if lengths_B is None:
        lengths_B = (roles_BS != Role.PADDING).sum(1)
    return Batch(
        tokens_BS=tokens_BS,
        roles_BS=roles_BS,
        lengths_BD=lengths_B[:, None],
        samples_BD3=samples_B3[:, None],
        offsets_BD=nought_B[:, None],
        numbers_BD=(torch.arange(len(tokens_BS)) if numbers_B is None else numbers_B)[:, None],
        lost_BD=nought_B.bool()[:, None],
        copies_B=nought_B if copies_B is None else copies_B,
        longest=int(lengths_B.max()),
    )


def packed(batch, plan, row_length, pad):
    """Rows of several documents each. batch: of one document to a row. plan: for each row the numbers of its documents,
    in order; all of a row's are of one copy. Where a row has less than `row_length` positions, it is filled with `pad`.
    """
    num_rows, width = len(plan), max(map(len, plan))
    tokens_BS = torch.full((num_rows, row_length), pad)
    roles_BS = torch.full((num_rows, row_length), int(Role.PADDING), dtype=torch.uint8)
    columns = {
        name: torch.zeros(num_rows, width, *getattr(batch, name).shape[2:], dtype=getattr(batch, name).dtype)
        for name in ("lengths_BD", "samples_BD3", "offsets_BD", "numbers_BD", "lost_BD")
    }
    for row, documents in enumerate(plan):
        start = 0
        for place, number in enumerate(documents):
            for name, column in columns.items():
                column[row, place] = getattr(batch, name)[number, 0]
            length = int(batch.lengths_BD[number, 0])
            tokens_BS[row, start : start + length] = batch.tokens_BS[number, :length]
            roles_BS[row, start : start + length] = batch.roles_BS[number, :length]
            start += length
    return Batch(
        tokens_BS=tokens_BS,
        roles_BS=roles_BS,
        **columns,
        copies_B=torch.stack([batch.copies_B[documents[0]] for documents in plan]),
        longest=batch.longest,
    )


def places_in(plan, batch):
    """Of each document of `packed`: row and slice, by its number."""
    found = {}
    for row, documents in enumerate(plan):
        start = 0
        for number in documents:
            length = int(batch.lengths_BD[number, 0])
            found[number] = (row, slice(start, start + length))
            start += length
    return found
