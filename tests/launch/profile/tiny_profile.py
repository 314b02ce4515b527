"""The profile of a large run shrunk to a second: its rows keep their tasks, and hold several documents."""

from triptych.configs.registry import named_run
from triptych.configs.tree import with_settings
from triptych.launch.profile.command import Asked, profile_run
from triptych.launch.profile.measuring import Passes
from triptych.trainer.parallel.groups import process_groups
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


def measured(folder, *settings, placement=None, num_micro_batches=4, checkpoint=False, trace=True):
    """The record; None on other processes than the first. One step warms up, so that the counted batches are known."""
    placement = placement or Placement()
    asked = Asked(
        name=NAME,
        settings=(*SETTINGS, *settings),
        num_micro_batches=num_micro_batches,
        data="synthetic",
        folder=folder,
        code="abc",
        command="triptych profile ...",
    )
    run = asked.run(placement.world_size)
    with process_groups(placement, run.fit.parallel) as groups:
        passes = Passes(num_warmup=0, num_steps=NUM_STEPS, trace=trace, checkpoint=checkpoint)
        return profile_run(run, groups, asked, passes)
