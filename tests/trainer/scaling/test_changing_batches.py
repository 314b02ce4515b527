"""Training whose batch changes mid-run: what the optimizer is given, against plain PyTorch, and across a resume."""

from dataclasses import replace

import pytest
import tiny_run
import torch

from triptych.kernels.philox import Stream
from triptych.models.parameterization import ShapeRatio, kind_of
from triptych.models.trimodal.model import TrimodalTransformer
from triptych.trainer.engine.config import EngineConfig
from triptych.trainer.objectives.masked_diffusion import MaskedDiffusion, MaskedDiffusionConfig
from triptych.trainer.optimizer import AdamWConfig
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement
from triptych.trainer.scaling.config import NoiseScaleConfig, RunFacts, ScalingConfig
from triptych.trainer.scaling.physical import BatchSchedule
from triptych.trainer.scaling.rules import decays
from triptych.trainer.scaling.scaling import hyper_parameters

SCHEDULE = BatchSchedule(tokens=(0, 500, 1300), sequences=(4, 16, 8))
FACTS = RunFacts(shape=ShapeRatio(width=2, depth=2))


def settings(**changes):
    return replace(
        tiny_run.config(2300, micro=4),
        physical_batch=SCHEDULE,
        optimizer=AdamWConfig(peak_learning_rate=5e-3, epsilon=1e-4),
        scaling=ScalingConfig(base_tokens=1000),
        **changes,
    )


@pytest.fixture(scope="module")
def groups():
    with process_groups(Placement()) as opened:
        yield opened


@pytest.fixture(scope="module")
def reference(groups):
    """The run, and after each step what its optimizer had been given and its count of updates."""
    given = []

    def look(state):
        optimizer = state.engine._deepspeed.optimizer
        found = {group["kind"]: dict(group) for group in optimizer.param_groups}
        given.append((found, state.logical_updates, [float(m["step"]) for m in state.engine._moments().values()]))

    records, final = tiny_run.run(groups, settings(), facts=FACTS, after_step=[look])
    return records, final, given


def test_the_batch_follows_the_schedule(reference):
    records, _, _ = reference
    before = [record.tokens - record.batch_tokens for record in records]
    assert [record.batch for record in records] == [SCHEDULE.at(tokens) for tokens in before]
    assert {record.batch for record in records} == {4, 8, 16}


def test_the_optimizer_is_given_the_values_of_each_steps_batch(reference):
    records, _, given = reference
    scaled = hyper_parameters(settings(), FACTS)
    for record, (groups_by_kind, _, _) in zip(records, given, strict=True):
        middle = record.tokens - record.batch_tokens / 2
        expected = scaled.step_values(record.batch, settings().learning_rate.factor(middle, 2300))
        for kind, group in groups_by_kind.items():
            mine = expected[kind]
            decay = mine.weight_decay if decays(kind) else 0.0
            assert (group["lr"], group["betas"]) == (mine.learning_rate, mine.betas)
            assert (group["eps"], group["weight_decay"]) == (mine.epsilon, decay)


def test_updates_are_counted_in_those_of_the_logical_batch(reference):
    records, _, given = reference
    total = 0.0
    for record, (_, logical_updates, steps) in zip(records, given, strict=True):
        total += record.kappa
        assert logical_updates == pytest.approx(total)
        assert steps == pytest.approx([total / record.kappa] * len(steps), rel=1e-6)


def test_equals_plain_pytorch(groups, reference):
    """AdamW by hand, its bias correction and second moment carried from batch to batch."""
    records, final, _ = reference
    scaled = hyper_parameters(settings(), FACTS)
    model = TrimodalTransformer(tiny_run.MODEL, groups.collection)
    model.initialise(seed=3)
    objective, data = MaskedDiffusion(MaskedDiffusionConfig(), tiny_run.VOCABULARY), tiny_run.mixture()
    parameters = list(model.parameters())
    first, second = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    kept = {0: 1.0, 1: 1.0}  # what is missing of each moment's weight, beta0^(sum of kappas)
    cursor, before, weight, sequences = {}, None, 0.0, 0
    for record in records:
        schedule = settings().learning_rate.factor(record.tokens - record.batch_tokens / 2, 2300)
        values = scaled.step_values(record.batch, schedule)
        batch, cursor = data.batch(cursor, record.batch, 0, 1)
        inputs, targets = objective.prepare(batch, Stream(seed=11))
        terms = objective.loss(model(inputs), targets)
        weight, sequences = weight + terms.weight.item(), sequences + record.batch
        gradients = torch.autograd.grad(terms.sum / (record.batch * weight / sequences), parameters)
        norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt().item()
        limit = record.kappa**-0.5
        for index in kept:
            kept[index] *= (0.9, 0.95)[index] ** record.kappa
        for p, m, v, g in zip(parameters, first, second, gradients, strict=True):
            mine = values[kind_of(p)]
            v.mul_((before or record.batch) / record.batch)
            g = g * min(1.0, limit / norm)
            m.lerp_(g, 1 - mine.betas[0])
            v.lerp_(g.square(), 1 - mine.betas[1])
            update = m / (1 - kept[0]) / ((v / (1 - kept[1])).sqrt() + mine.epsilon)
            decay = mine.weight_decay if decays(kind_of(p)) else 0.0
            p.data.mul_(1 - mine.learning_rate * decay).sub_(mine.learning_rate * update)
        before = record.batch
        assert record.metrics["loss"] == pytest.approx((terms.sum / terms.weight).item(), rel=1e-4)
        assert record.gradient_norm == pytest.approx(norm, rel=1e-4)
    named = dict(model.named_parameters())
    assert max((final[name] - named[name]).abs().max().item() for name in final) < 1e-4


def _interrupted(world_size, folder):
    placement = Placement(rank=torch.distributed.get_rank(), world_size=world_size)
    with process_groups(placement) as groups:
        done = []
        first, _ = tiny_run.run(
            groups,
            settings(),
            facts=FACTS,
            checkpoints=folder,
            reporters=[done.append],
            stop_requested=lambda: len(done) == 12,
        )
    return first


def test_two_processes_go_on_from_a_change_as_one(groups, run_processes, reference, tmp_path):
    """Stopped just after the batch grew, in two processes; resumed in one."""
    records, final, _ = reference
    first = run_processes(_interrupted, 2, 2, tmp_path, timeout_seconds=240)[0]
    assert {record.batch for record in first} == {4, 16}
    rest, resumed = tiny_run.run(groups, settings(), facts=FACTS, checkpoints=tmp_path, resume=True)
    losses = [record.metrics["loss"] for record in records]
    assert [record.metrics["loss"] for record in first + rest] == pytest.approx(losses, rel=1e-4)
    assert [record.batch for record in first + rest] == [record.batch for record in records]
    assert max((final[name] - resumed[name]).abs().max().item() for name in final) < 1e-4


def test_an_automatic_batch_follows_the_measured_noise(groups):
    """The model learns its few sequences by heart: signal goes, noise stays, and the batch doubles up to its limit."""
    automatic = replace(
        tiny_run.config(30_000, micro=4),
        physical_batch="auto",
        noise_scale=NoiseScaleConfig(every_tokens=1, half_life_tokens=10_000),
        scaling=ScalingConfig(minimum_steps=60),
    )
    facts = RunFacts(tokens_per_row=13.0)
    records, _ = tiny_run.run(groups, automatic, facts=facts)
    batches = [record.batch for record in records]
    assert batches[0] == 8
    assert set(batches) <= {4, 8, 16, 32}  # powers of two of the micro-batch; 60 steps are left at 38
    assert max(batches) > 8
    scales = [record.metrics.get("noise_scale/all") for record in records]
    assert max(scale for scale in scales if scale is not None) > max(batches) / 2.5
    assert records[-1].metrics.keys() | records[-2].metrics.keys() >= {"gradient_noise/all"}


def test_measuring_the_noise_changes_nothing(groups, reference):
    measuring = settings(noise_scale=NoiseScaleConfig(every_tokens=200, half_life_tokens=1000))
    records, final = tiny_run.run(groups, measuring, facts=FACTS)
    losses = [record.metrics["loss"] for record in reference[0]]
    assert [record.metrics["loss"] for record in records] == pytest.approx(losses, rel=1e-4)
    assert any("gradient_noise/all" in record.metrics for record in records)
    assert max((final[name] - reference[1][name]).abs().max().item() for name in final) < 1e-4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"physical_batch": "auto"}, "physical_batch=auto goes by the gradient's noise; set noise_scale"),
        ({"physical_batch": 0}, "physical_batch is 0"),
        (
            {
                "engine": EngineConfig(zero_stage=2),
                "noise_scale": NoiseScaleConfig(every_tokens=1, half_life_tokens=1),
            },
            "zero_stage=2 partitions gradients",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(settings(), **changes)
