"""Settings by path: the right ones take, the wrong ones are named in one line with a mend."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.configs.registry import RUNS, named_run
from triptych.configs.tree import from_mapping, from_yaml, parse_value, to_mapping, to_yaml, with_settings
from triptych.configs.trimodal import TrimodalRun
from triptych.models.diffusion.schedules import Cosine, Polynomial


@pytest.fixture
def demo():
    return named_run("trimodal_demo")


@pytest.mark.parametrize("name", RUNS)
def test_yaml_round_trip(name):
    run = named_run(name)
    assert from_yaml(TrimodalRun, to_yaml(run), origin="run.yaml") == run


def test_values_reach_their_fields(demo):
    changed = with_settings(
        demo,
        [
            "fit.total_tokens=9e6",
            "fit.optimizer.peak_learning_rate=1e-3",
            "fit.optimizer.betas=[0.8, 0.9]",
            "objective.schedules.image.kind=cosine",
            "objective.schedules.audio={kind: polynomial, power: 2}",
            "data.sources.text.weight=3",
        ],
    )
    assert changed.fit.total_tokens == 9_000_000
    assert changed.fit.optimizer.peak_learning_rate == 1e-3
    assert changed.fit.optimizer.betas == (0.8, 0.9)
    assert changed.objective.schedules.image == Cosine()
    assert changed.objective.schedules.audio == Polynomial(power=2.0)
    assert changed.data.sources["text"].weight == 3.0
    assert demo == named_run("trimodal_demo")


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("fit.totl_tokens=3", "did you mean total_tokens"),
        ("nowhere.at.all=3", "there is no nowhere"),
        ("fit.seed.deeper=3", "it has no fields"),
        ("fit.total_tokens", "write --set path=value"),
        ("fit.total_tokens=many", "valid integer"),
        ("fit.total_tokens=1.5", "valid integer"),
        ("fit.total_tokens=true", "valid integer"),
        ("model.num_attention_heads=5", "change hidden_size or num_attention_heads"),
        ("objective.schedules.image.kind=sawtooth", "sawtooth"),
        ("objective.schedules.image={kind: linear, power: 2}", "there is no objective.schedules.image.power"),
        ("fit.engine.zero_stage=7", "should be 0, 1 or 2"),
        ("fit.learning_rate.warmup_tokens=1e12", "not below total_tokens"),
        ("data.sources={}", "name at least one source"),
        ("model=3", "model"),
        ("fit.physical_batch=foo", r"fit\.physical_batch: .*valid integer, or 'logical' or 'auto', or an object"),
        ("fit.physical_batch={tokens: [0], sequences: [4, 5]}", r"fit\.physical_batch: .* as many tokens as sequences"),
        ("fit.physical_batch={tokens: [0]}", r"fit\.physical_batch\.sequences: field required"),
        (
            "fit.physical_batch={tokens: [0], sequences: [4], between: cubic}",
            r"fit\.physical_batch\.between: .*'linear'",
        ),
        ("fit.optimizer.kinds={bogus: {}}", r"fit\.optimizer\.kinds\.bogus: input should be 'embedding'"),
        ("fit.optimizer.kinds.readout.epsilon=2", r"set fit\.optimizer\.kinds whole, to {readout: \.\.}"),
        ("fit.averages=[{name: x}]", r"fit\.averages\.0: average x has no decay; set one of"),
        ("fit.noise_scale={}", r"fit\.noise_scale\.every_tokens: field required"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(demo, assignment, message):
    with pytest.raises(ValueError, match=message) as caught:
        with_settings(demo, [assignment])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[1, 2", "just words", "- a\n- b", "!!python/object/apply:os.system [exit]"])
def test_yaml_that_holds_no_run_is_refused(text):
    with pytest.raises(ValueError, match=r"run\.yaml"):
        from_yaml(TrimodalRun, text, origin="run.yaml")


def test_an_unknown_key_is_refused(demo):
    document = to_mapping(demo)
    document["fit"]["momentum"] = 0.9
    with pytest.raises(ValueError, match=r"fit\.momentum"):
        from_mapping(TrimodalRun, document, origin="run.yaml")


def test_an_unknown_run_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean trimodal_3b"):
        named_run("trimodal_3bn")


@given(st.integers(-(10**15), 10**15))
def test_whole_numbers_stay_whole(number):
    assert parse_value(str(number)) == number
    assert isinstance(parse_value(str(number)), int)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_keep_their_value(number):
    assert parse_value(repr(number)) == number
