import numpy as np
import pytest

from triptych.configs.tokenizers import TokenizerRun, audio_fsq_demo, build_tokenizer, image_fsq_demo
from triptych.configs.tree import from_mapping, to_mapping, with_settings
from triptych.kernels.philox import Stream

RUNS = pytest.mark.parametrize("run", [image_fsq_demo(), audio_fsq_demo()], ids=lambda run: run.name)


def _raw(run: TokenizerRun) -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    if run.model.kind == "fsq_image":
        return list(draw.integers(0, 256, (4, 8, 8), dtype=np.uint8))
    return [draw.normal(0, 0.1, length).astype(np.float32) for length in (9000, 2000, 16_000, 500)]


@RUNS
def test_the_parts_of_a_run_fit_together(run):
    model = run.build_model()
    objective = run.build_objective(model)
    batch, _ = run.build_data(_raw(run)).batch({}, 4, 0, 1)
    inputs, targets = objective.prepare(batch, Stream(seed=run.fit.seed))
    terms = objective.loss(model(inputs), targets)
    terms.sum.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


@RUNS
def test_the_clock_agrees_with_the_codes_that_come_out(run):
    batch, _ = run.build_data(_raw(run)).batch({}, 4, 0, 1)
    codes = build_tokenizer(run.build_model()).encode(_raw(run))
    assert int(batch.num_tokens) == sum(map(len, codes))


@RUNS
def test_a_run_survives_being_written_and_read(run):
    assert from_mapping(TokenizerRun, to_mapping(run), origin="test") == run


def test_settings_reach_the_model():
    assert with_settings(audio_fsq_demo(), ["model.levels=[5, 5]", "model.mel.num_mels=40"]).model.levels == (5, 5)
