"""The benchmark of a large run shrunk to a second: its rows keep their tasks, and hold several documents."""

import json

from triptych.configs.registry import named_run
from triptych.configs.tree import with_settings
from triptych.launch.profile.command import benchmark
from triptych.trainer.parallel.placement import Placement

NAME = "trimodal_320m"
NUM_STEPS = 3
SETTINGS = (
    "model.base=null",
    "model.hidden_size=64",
    "model.num_layers=2",
    "model.num_attention_heads=4",
    "model.ffn_hidden_size=96",
    "model.sequence_length=80",
    "model.vocabulary={text: 500, image: 64, audio: 32}",
    "data.regions={text: 10, image: 32, audio: 50}",
    "data.packing.row_length=160",
    "fit.micro_batch_per_dp_rank=2",
    "fit.engine.precision=fp32",
)


def tiny_run(*settings):
    return with_settings(named_run(NAME), [*SETTINGS, *settings])


def measured(folder, *settings, placement=None, trace=False, num_micro_batches=4):
    """What the benchmark wrote down."""
    path = benchmark(
        NAME,
        [*SETTINGS, *settings],
        placement=placement or Placement(),
        num_micro_batches=num_micro_batches,
        num_warmup=1,
        num_steps=NUM_STEPS,
        trace=trace,
        folder=folder,
        code="abc",
        command="python -m triptych.launch.profile ...",
    )
    return json.loads(path.read_text()) if path.exists() else None
