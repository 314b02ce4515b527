"""megatron-energon over the same tars, with an index of its own and its own stage for packing."""

import contextlib
import importlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from triptych.data_pipelines.shards.codes import unpack_codes
from triptych.data_pipelines.stream.benchmark.documents import END, ROW_LENGTH, ROWS, Texts
from triptych.data_pipelines.stream.benchmark.packing import Rows
from triptych.data_pipelines.stream.benchmark.peers.protocol import Facts
from triptych.data_pipelines.stream.benchmark.peers.triptych import Triptych
from triptych.data_pipelines.stream.packing import best_fit

_BUFFER = 4096
_DATASET = "__module__: megatron.energon\n__class__: CrudeWebdataset\n"


class Energon:
    """`get_train_dataset` with a task encoder that packs a buffer of documents, best-fit, as it is done here."""

    name = "megatron-energon"
    package = "megatron-energon"
    format = "tars"
    can_seek = False
    facts = Facts(
        format="plain tars, an index of its own",
        shuffle=f"slices of shards, then a buffer of {_BUFFER:,} samples",
        packing=f"a stage of its own, best-fit over a buffer of {_BUFFER:,} documents; padding not counted",
        resume="exact, from the saved state of every worker; buffered samples are read again; a place where no run "
        "has been cannot be asked for",
        elastic="no: the same ranks and workers",
    )

    def write(self, folder: Path, texts: Texts) -> None:
        if not (folder / "manifest.json").exists():
            Triptych().write(folder, texts)
        names = [path.name for path in sorted(folder.glob("shard-*.tar"))]
        factory = importlib.import_module("megatron.energon").BaseWebdatasetFactory
        path = importlib.import_module("megatron.energon.epathlib").EPath(str(folder))
        with contextlib.redirect_stdout(io.StringIO()):
            factory.prepare_dataset(path, names, split_parts_ratio=[("train", 1.0)], workers=2)
        (folder / ".nv-meta" / "dataset.yaml").write_text(_DATASET)

    def multiply(self, folder: Path, num_shards: int) -> None:
        raise NotImplementedError("a key may come once in a set")

    def batches(self, folder: Path, num_workers: int, samples: int = 0) -> Iterator[int]:
        assert not samples, "it goes on from a saved state alone"
        energon = importlib.import_module("megatron.energon")
        dataset = energon.get_train_dataset(
            str(folder),
            batch_size=ROWS,
            shuffle_buffer_size=_BUFFER,
            max_samples_per_sequence=100,
            packing_buffer_size=_BUFFER,
            worker_config=energon.WorkerConfig(rank=0, world_size=1, num_workers=num_workers),
            task_encoder=_encoder(energon),
        )
        for batch in energon.get_savable_loader(dataset, prefetch_factor=4):
            yield int(batch["sizes"].sum())


def _encoder(energon: Any) -> Any:
    """A class over the package's, which is there only once it is imported."""

    class Encoder(energon.TaskEncoder):
        cookers = (energon.Cooker(energon.stateless(_codes)),)
        decoder = None

        @energon.stateless
        def encode_sample(self, sample: NDArray[np.int32]) -> Iterator[NDArray[np.int32]]:
            whole = np.append(sample, END)
            for first in range(0, len(whole), ROW_LENGTH):
                yield whole[first : first + ROW_LENGTH]

        def select_samples_to_pack(self, samples: list[NDArray[np.int32]]) -> list[list[NDArray[np.int32]]]:
            rows_N = best_fit(np.array([len(sample) for sample in samples]), ROW_LENGTH)
            rows: list[list[NDArray[np.int32]]] = [[] for _ in range(rows_N.max() + 1)]
            for row, sample in zip(rows_N.tolist(), samples, strict=True):
                rows[row].append(sample)
            return rows

        @energon.stateless
        def pack_selected_samples(self, samples: list[NDArray[np.int32]]) -> tuple[NDArray[np.int64], list[int]]:
            tokens_S = np.full(ROW_LENGTH, END, np.int64)
            tokens_S[: sum(map(len, samples))] = np.concatenate(samples)
            return tokens_S, [len(sample) for sample in samples]

        @energon.stateless
        def batch(self, samples: Sequence[tuple[NDArray[np.int64], list[int]]]) -> Rows:
            return {
                "tokens": torch.from_numpy(np.stack([tokens_S for tokens_S, _ in samples])),
                "sizes": torch.tensor([size for _, sizes in samples for size in sizes]),
            }

    return Encoder()


def _codes(sample: dict[str, Any]) -> NDArray[np.int32]:
    return unpack_codes("", sample["text.npy"])
