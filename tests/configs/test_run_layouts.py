"""What decides a run's layout: its plan, and how its pipeline is balanced."""

import pytest

from triptych.configs.layouts import predicted_shares
from triptych.configs.registry import named_run
from triptych.configs.token_data import SourceConfig, TokenDataConfig
from triptych.configs.tree import with_settings
from triptych.data_pipelines.stream.sequences import RegionSizes, SequenceLayout
from triptych.data_pipelines.stream.windows import PackingConfig
from triptych.data_pipelines.vocabulary import Vocabulary
from triptych.trainer.parallel.refusal import is_legal, require_layout

LARGE = ["trimodal_320m", "trimodal_1b", "trimodal_3b"]


def test_shares_by_hand():
    layout = SequenceLayout(
        vocabulary=Vocabulary(text=9, image=9, audio=9),
        sequence_length=40,
        regions=RegionSizes(text=7, image=10, audio=20),
    )
    sources = [
        SourceConfig(task="text", shards="a", weight=2.0),  # 40 tokens a sequence: 1/20
        SourceConfig(task="t2i", shards="b", weight=1.0),  # 3 + 7 + 10 tokens: 1/20
        SourceConfig(task="s2t", shards="c", weight=3.0),  # 3 + 20 + 7 tokens: 1/10
    ]
    named = {source.shards: source for source in sources}
    data = TokenDataConfig(
        folder="", regions=layout.regions, sources=named, packing=PackingConfig(row_length=40, rows="none")
    )
    shares = predicted_shares(layout, data)
    assert shares == pytest.approx({"text": (40 / 4 + 7 / 2) / 40, "image": (10 / 4) / 40, "audio": 0})


def test_the_plan_has_the_runs_numbers():
    settings = ["fit.parallel.tensor=2", "fit.engine.zero_stage=2", "objective.pairing=complement"]
    plan = with_settings(named_run("trimodal_demo"), settings).plan(8)
    assert (plan.layout.tensor, plan.world_size, plan.zero_stage, plan.rows_together) == (2, 8, 2, 2)
    assert (plan.batch, plan.micro_batch, plan.precision) == (4, 4, "fp32")
    assert plan.model.vocabulary_sizes == (1171, 1025, 65, 65)


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("layout", [(1, 1, 1, False), (2, 1, 1, True), (1, 4, 1, False), (2, 2, 2, True)], ids=str)
def test_the_large_runs_take_the_usual_layouts_on_eight_processes(name, layout):
    names = ("tensor", "pipeline", "virtual", "sequence")
    settings = [f"fit.parallel.{name}={str(value).lower()}" for name, value in zip(names, layout, strict=True)]
    assert is_legal(with_settings(named_run(name), settings).plan(8))


def test_the_mend_of_a_refusal_is_a_setting():
    run = with_settings(named_run("trimodal_demo"), ["fit.parallel.tensor=4"])
    with pytest.raises(ValueError, match="1171 rows of the vocabulary; nearest that can run: ") as refusal:
        require_layout(run.plan(4))
    mend = str(refusal.value).split("nearest that can run: ")[1].split(", ")[0]
    require_layout(with_settings(run, [mend]).plan(4))


def test_a_logical_batch_of_the_pilots_horizon_is_judged_as_it_is():
    """It is whole, so it is not rounded to what divides."""
    run = with_settings(named_run("trimodal_320m"), ["fit.physical_batch=logical"])
    require_layout(run.plan(2))
    with pytest.raises(ValueError, match=r"fit.physical_batch=32 .* 3 data-parallel .*: .*=30 or 33 or 36"):
        require_layout(run.plan(3))


def test_the_heads_of_the_pilot_weigh_more_than_a_layer():
    first, last = named_run("trimodal_320m").stage_costs
    assert first == 0
    assert 1 < last < 2
