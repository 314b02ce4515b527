"""What a profile writes down, one flat JSON object: `triptych profile` writes it, `triptych plan --calibrate` reads it.

A reader may rely on every field of its version. A field that is added, or that changes its meaning, raises VERSION.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.configs.tree import from_mapping, to_mapping
from triptych.configs.trimodal import TrimodalRun
from triptych.data_pipelines.shards.atomic import replace_file

SCHEMA = "triptych profile"
VERSION = 1

PARTS: tuple[str, ...] = ("data", "prepare", "forward", "backward", "communication", "optimizer", "other")
"""Of a step. data: drawing the batch and moving it to the device. prepare: corruption of the rows. forward: with the
loss. backward: with recomputation. communication: collectives, as far as nothing else was computed meanwhile; it is in
none of the other parts. optimizer: reduction of gradients apart from its communication, clipping, AdamW. other: what is
between the parts, such as counting tokens, and waiting for a pipeline's neighbours.
"""

MEMORY_PARTS: tuple[str, ...] = ("parameters", "gradients", "optimizer", "buffers", "activations", "other")
"""Of one process. As predicted, `trainer/parallel/memory.py` and `launch/planning/model/activations.py` have what each
is. As measured: parameters, the bytes of the tensors that the forward pass reads; optimizer, those of the fp32 weights
and moments apart from these; gradients, all that a backward pass leaves besides, buffers among it; activations, the
most that a forward pass adds and its backward pass takes away; other, what the peak has beyond the sum of these: what a
moment needs, and the libraries.
"""

COUNTS: tuple[str, ...] = ("as_run", "dense_head", "computed")
"""Of floating-point operations. as_run: positions that are not padding, attention within documents, heads on masked
rows; three forward passes. dense_head: the same with one head over the whole vocabulary at every such position, which
is the 6 N + 12 L H S of other people. computed: all that runs through matrices, padding, the rows that fill a head's
capacity and recomputation among it.
"""


@dataclass(kw_only=True, slots=True, frozen=True)
class ProfileRecord:
    """One profile. Seconds are of one step, medians over the steps, unless they say otherwise; operations and tokens
    are of one step over all devices; bytes are of the one process that has most. A number that is not known, or was not
    measured, is None, and a part that was not is missing from its mapping.

    run: its name; options: what `--set` was given; settings: all of it, `TrimodalRun` as a mapping. data: "synthetic",
    sequences drawn at random with the run's mix of tasks and lengths; "real", the run's own stream and loader.

    device: as its driver calls it, "CPU" without one. device_memory_bytes: of one device, on a CPU the machine's.
    threads: of torch in one process. versions: package to version, "python" and "cuda" among them. load: processes that
    wanted a core, as the machine's mean over a minute said, before and after.

    parameters: of one whole model. row_length, sequence_length: positions. micro_batch: rows at once in one process.
    batch: rows of a step over all processes. attention: the backend that computed it.

    steady: whether the steps before the timed ones had settled (`measure/steady.py`); warmup_steps: how many they were.
    step_seconds and its quartiles: at full speed, nothing waited for inside a step. part_seconds, by PARTS: of other
    steps, which wait for the device after each part, so that their sum (synchronised_step_seconds) is no less.
    part_quartiles: the first and third, of the same steps, communication not taken out.

    communication_seconds, _exposed_seconds: of collectives in one traced step, in which some run side by side with
    computation; the exposed ones do not. communication_kinds: seconds by collective.

    tokens: positions that are not padding. attended_pairs: pairs of positions between which attention is computed.
    projected_rows, masked_rows: by modality, rows that a head computes, and those of them that are no filler.
    flops: by COUNTS; flops_dense, flops_attention and flops_heads: the three parts of "computed".
    peak_tflops: the maker's, of one device in the run's precision. matmul_tflops: what the multiplication of two large
    matrices reached here. mfu: by COUNTS, share of peak_tflops.

    memory_predicted, memory_measured: by MEMORY_PARTS. peak_bytes: the most that was held in a step; on CUDA what
    torch's allocator gave out, on a CPU the resident memory beyond that before the model was built.
    peak_reserved_bytes: what the allocator took from the device; None on a CPU.

    checkpoint_blocking_seconds: for which a save keeps the training waiting; checkpoint_background_seconds: from then
    until it is on disk; checkpoint_bytes: of all processes together.

    kernel_shares: of a traced step's seconds, by kind of kernel, "idle" where none runs. kernels: the longest,
    {"name", "kind", "seconds", "calls"}. trace, page: files beside this one.
    """

    schema: str = SCHEMA
    version: int = VERSION
    run: str
    options: list[str]
    data: str
    settings: dict[str, Any]
    measured: str
    command: str
    commit: str

    device: str
    num_devices: int
    device_memory_bytes: int | None
    processor: str
    threads: int
    load: tuple[float, float]
    versions: dict[str, str | None]

    tensor: int
    pipeline: int
    virtual: int
    sequence: bool
    data_ranks: int
    zero_stage: int
    precision: str
    recompute: str
    attention: str

    parameters: int
    row_length: int
    sequence_length: int
    micro_batch: int
    micro_batches_per_step: int
    batch: int

    warmup_steps: int
    steady: bool
    num_steps: int
    step_seconds: float
    step_seconds_quartiles: tuple[float, float]
    synchronised_step_seconds: float | None
    part_seconds: dict[str, float]
    part_quartiles: dict[str, tuple[float, float]]
    communication_seconds: float | None
    communication_exposed_seconds: float | None
    communication_kinds: dict[str, float]
    build_seconds: float

    tokens: float
    positions: float
    attended_pairs: float
    projected_rows: dict[str, float]
    masked_rows: dict[str, float]
    tokens_per_second: float
    tokens_per_second_per_device: float
    flops: dict[str, float]
    flops_dense: float
    flops_attention: float
    flops_heads: float
    tflops_per_device: dict[str, float]
    mfu: dict[str, float | None]
    peak_tflops: float | None
    matmul_tflops: float

    memory_predicted: dict[str, int]
    memory_measured: dict[str, int]
    peak_bytes: int
    peak_reserved_bytes: int | None

    checkpoint_blocking_seconds: float | None
    checkpoint_background_seconds: float | None
    checkpoint_bytes: int | None

    kernel_shares: dict[str, float]
    kernels: list[dict[str, Any]]
    losses: list[float]
    trace: str | None
    page: str | None

    @property
    def tree(self) -> TrimodalRun:
        """The run that was profiled. ValueError if its settings are of another version of the code."""
        return from_mapping(TrimodalRun, self.settings, origin=f"profile of {self.run}")

    @property
    def steady_words(self) -> str:
        """What there is to say of the steps before the timed ones."""
        settled = "had settled" if self.steady else "had not settled"
        return f"After {self.warmup_steps} steps, which {settled}"

    def write(self, path: Path) -> None:
        """As JSON, in one go."""
        replace_file(path, (json.dumps(to_mapping(self), indent=2) + "\n").encode())


def read_record(path: Path) -> ProfileRecord:
    """ValueError, naming the file, if it is none, or of another version."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"there is no {path}; write one with `triptych profile RUN`") from None
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is no profile ({' '.join(str(error).split())}); write it again") from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise ValueError(f"{path} is no profile; name a JSON file that `triptych profile` wrote")
    if document.get("version") != VERSION:
        raise ValueError(
            f"{path} is a profile of version {document.get('version')}, this code reads version {VERSION}; profile the "
            "run again"
        )
    names = {field.name for field in dataclasses.fields(ProfileRecord)}
    missing = sorted(names - document.keys())
    if missing:
        raise ValueError(f"{path} has no {missing[0]}; profile the run again")
    return from_mapping(ProfileRecord, document, origin=str(path))
