"""Softmax attention of packed documents on a CPU, three ways, side by side.

    python tests/models/attention/measure_packed_rows.py --table models/attention/results/packed_rows.md

Shape legend: S positions, B rows, H query heads, G key-value heads, D head dimension, N documents, L of the longest.
"""

import argparse
import random
import subprocess
import time
from pathlib import Path

import torch
from torch.nn import functional

from triptych.kernels.provenance import processor, versions
from triptych.models.attention.documents import PackedDocuments
from triptych.models.attention.registry.request import AttentionCall
from triptych.models.attention.registry.softmax import sdpa

# rows, positions, query heads, key-value heads, head dimension, lengths of documents
CASES = [
    (4, 126, 6, 6, 32, [25]),
    (4, 126, 6, 6, 32, [20, 25, 61]),
    (4, 126, 6, 6, 32, [61, 63]),
    (8, 126, 6, 3, 32, [25]),
    (2, 2048, 8, 8, 64, [25]),
    (2, 2048, 8, 8, 64, [512]),
    (2, 2048, 8, 8, 64, list(range(16, 600, 13))),
    (1, 2048, 8, 8, 64, [2048]),
]
HEAD = """# Packed documents on a CPU

Written by `python tests/models/attention/measure_packed_rows.py --table models/attention/results/packed_rows.md`:
softmax attention of fp32 rows that are filled with documents of the given lengths, forward and backward pass, least of
{rounds} rounds in milliseconds, threads: {threads}; the three ways in turn, on a machine that did other work as well.

* one mask: scaled_dot_product_attention of the whole rows, with a bool mask [B, 1, S, S] that is made beforehand.
* gathered: the documents side by side in [N, L], with a mask of keys, and put back.
* by length: one call for all documents of a length, as `models/attention/registry/softmax.py` does it.

{processor}; torch {torch}; commit {commit}.

"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    names = ("one mask", "gathered", "by length")
    lines = [("rows", "positions", "heads", "groups", "width", "documents", *names), ("---",) * 9]
    for case in CASES:
        milliseconds = measured(*case, options.rounds)
        lengths = case[-1]
        shown = f"{lengths[0]} to {lengths[-1]}" if len(lengths) > 3 else ", ".join(map(str, lengths))
        lines.append((*map(str, case[:-1]), shown, *(f"{each:.1f}" for each in milliseconds)))
        print(*lines[-1], sep=" | ", flush=True)
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    head = HEAD.format(
        rounds=options.rounds,
        threads=torch.get_num_threads(),
        processor=processor(),
        torch=versions(("torch",))["torch"],
        commit=commit.stdout.strip(),
    )
    options.table.write_text(head + "".join(f"| {' | '.join(line)} |\n" for line in lines))


def measured(num_rows, num_positions, num_heads, num_groups, width, choices, rounds):
    """Of each way the least milliseconds of a forward and backward pass. They must agree."""
    draw = torch.Generator().manual_seed(0)
    lengths_BD = filled(num_rows, num_positions, choices)
    rows = PackedDocuments(lengths_BD=lengths_BD, longest=int(lengths_BD.max())).laid_out(num_positions)
    tensors = [
        torch.randn(num_positions, num_rows, heads, width, generator=draw).transpose(0, 1).requires_grad_()
        for heads in (num_heads, num_groups, num_groups)
    ]
    inside_BS11 = (torch.arange(num_positions) < lengths_BD.sum(1, keepdim=True))[..., None, None]
    weights = torch.randn(num_rows, num_positions, num_heads, width, generator=draw) * inside_BS11
    call = AttentionCall(segments=rows.segments, layout=rows.layout)
    visible = rows.layout.visible | ~inside_BS11[:, None, :, 0, 0][..., None]
    ways = (lambda *x: masked(*x, visible), lambda *x: gathered(*x, lengths_BD), lambda *x: sdpa(*x, call))
    best, results = [float("inf")] * len(ways), [None] * len(ways)
    for _ in range(rounds):
        for number, way in enumerate(ways):
            started = time.perf_counter()
            gradients = torch.autograd.grad((way(*tensors) * weights).sum(), tensors)
            best[number] = min(best[number], 1e3 * (time.perf_counter() - started))
            results[number] = gradients
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], atol=1e-4, rtol=1e-4)
    return best


def filled(num_rows, num_positions, choices):
    draw, rows = random.Random(0), []
    for _ in range(num_rows):
        row = []
        while sum(row) + (length := draw.choice(choices)) <= num_positions:
            row.append(length)
        rows.append(row)
    width = max(map(len, rows))
    return torch.tensor([row + [0] * (width - len(row)) for row in rows])


def attend(query_BSHD, key_BSGD, value_BSGD, mask):
    heads_first = (x.transpose(1, 2) for x in (query_BSHD, key_BSGD, value_BSGD))
    groups = query_BSHD.shape[2] != key_BSGD.shape[2]
    return functional.scaled_dot_product_attention(*heads_first, attn_mask=mask, enable_gqa=groups).transpose(1, 2)


def masked(query_BSHD, key_BSGD, value_BSGD, visible_B1SS):
    return attend(query_BSHD, key_BSGD, value_BSGD, visible_B1SS)


def gathered(query_BSHD, key_BSGD, value_BSGD, lengths_BD):
    num_rows, num_positions = query_BSHD.shape[:2]
    starts_BD = lengths_BD.cumsum(1) - lengths_BD + num_positions * torch.arange(num_rows)[:, None]
    real = lengths_BD.flatten() > 0
    starts_N, lengths_N = starts_BD.flatten()[real], lengths_BD.flatten()[real]
    place_L = torch.arange(int(lengths_N.max()))
    inside_NL = place_L < lengths_N[:, None]
    index_NL = (starts_N[:, None] + place_L).clamp(max=num_rows * num_positions - 1)
    documents = (x.flatten(0, 1)[index_NL] for x in (query_BSHD, key_BSGD, value_BSGD))
    out_NLHD = attend(*documents, inside_NL[:, None, None, :])
    out = torch.zeros(num_rows * num_positions, *query_BSHD.shape[2:])
    return out.index_put((index_NL[inside_NL],), out_NLHD[inside_NL]).unflatten(0, (num_rows, num_positions))


if __name__ == "__main__":
    main()
