"""The loop against plain PyTorch, against itself under other physical batches, and across an interruption."""

import errno
import json
import threading
from pathlib import Path

import pytest
import tiny_run
import torch

from triptych.kernels.philox import Stream
from triptych.models.trimodal.model import TrimodalTransformer
from triptych.trainer.checkpoint.disk import storage
from triptych.trainer.objectives.masked_diffusion import MaskedDiffusion, MaskedDiffusionConfig
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement

GOLDEN = Path(__file__).with_name("golden_losses.json")
STEPS = 20


@pytest.fixture(scope="module")
def groups():
    with process_groups(Placement()) as opened:
        yield opened


@pytest.fixture(scope="module")
def reference(groups):
    """Twenty steps in one process, one micro-batch."""
    return tiny_run.run(groups, tiny_run.config(2300))


def largest_difference(first, second):
    return max((first[name] - second[name]).abs().max().item() for name in first)


def test_the_golden_curve(reference):
    records, _ = reference
    golden = json.loads(GOLDEN.read_text())
    assert [record.tokens for record in records] == golden["tokens"]
    assert [record.metrics["loss"] for record in records] == pytest.approx(golden["losses"], rel=1e-4)
    assert [record.gradient_norm for record in records] == pytest.approx(golden["gradient_norms"], rel=1e-3)


def test_equals_plain_pytorch(groups, reference):
    """AdamW, clipping, schedule and weighting written out by hand: no DeepSpeed."""
    records, final = reference
    model = TrimodalTransformer(tiny_run.MODEL, groups.collection)
    model.initialise(seed=3)
    settings, objective, data = (
        tiny_run.config(2300),
        MaskedDiffusion(MaskedDiffusionConfig(), tiny_run.VOCABULARY),
        tiny_run.mixture(),
    )
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        betas=(0.9, 0.95),
        eps=1e-8,
    )
    cursor, weight, sequences = {}, 0.0, 0
    for record in records:
        batch, cursor = data.batch(cursor, 8, 0, 1)
        inputs, targets = objective.prepare(batch, Stream(seed=11))
        terms = objective.loss(model(inputs), targets)
        loss = terms.sum / terms.weight
        weight, sequences = weight + terms.weight.item(), sequences + 8
        optimizer.zero_grad()
        (terms.sum / (8 * weight / sequences)).backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 * settings.learning_rate.factor(record.tokens - record.batch_tokens / 2, 2300)
        optimizer.step()
        assert record.metrics["loss"] == pytest.approx(loss.item(), rel=1e-5)
        assert record.gradient_norm == pytest.approx(norm.item(), rel=1e-5)
    assert largest_difference(final, dict(model.named_parameters())) < 1e-5


@pytest.mark.parametrize(("micro", "zero"), [(2, 1), (3, 1), (8, 2)])
def test_micro_batches_and_zero_stage_change_nothing(groups, reference, micro, zero):
    records, final = tiny_run.run(groups, tiny_run.config(2300, micro=micro, zero=zero))
    losses = [record.metrics["loss"] for record in records]
    assert losses == pytest.approx([record.metrics["loss"] for record in reference[0]], rel=1e-5)
    assert largest_difference(final, reference[1]) < 1e-4


def _one_rank(world_size, zero, folder):
    placement = Placement(rank=torch.distributed.get_rank(), world_size=world_size)
    with process_groups(placement) as groups:
        done = []
        first, _ = tiny_run.run(
            groups,
            tiny_run.config(2300, micro=4, zero=zero),
            checkpoints=folder,
            reporters=[done.append],
            stop_requested=lambda: len(done) == 7,
        )
        second, final = tiny_run.run(groups, tiny_run.config(2300, zero=zero), checkpoints=folder, resume=True)
    return [record.metrics["loss"] for record in first + second], final


@pytest.mark.parametrize("zero", [1, 2])
def test_two_processes_interrupted_equal_one_that_was_not(run_processes, reference, tmp_path, zero):
    results = run_processes(_one_rank, 2, 2, zero, tmp_path / "checkpoints", timeout_seconds=240)
    for losses, final in results:
        assert losses == pytest.approx([record.metrics["loss"] for record in reference[0]], rel=1e-5)
        assert largest_difference(final, reference[1]) < 1e-4


@pytest.mark.parametrize("stop_after", [3, 11])
def test_a_resumed_run_is_the_same_run(groups, reference, tmp_path, stop_after):
    done = []
    stopped, _ = tiny_run.run(
        groups,
        tiny_run.config(2300),
        checkpoints=tmp_path,
        reporters=[done.append],
        stop_requested=lambda: len(done) == stop_after,
    )
    resumed, final = tiny_run.run(groups, tiny_run.config(2300), checkpoints=tmp_path, resume=True)
    records = stopped + resumed
    assert [record.metrics for record in records] == [record.metrics for record in reference[0]]
    assert all(torch.equal(final[name], weight) for name, weight in reference[1].items())


def test_bf16_follows_fp32(groups, reference):
    records, final = tiny_run.run(groups, tiny_run.config(2300, precision="bf16"))
    losses = [record.metrics["loss"] for record in records]
    assert losses == pytest.approx([record.metrics["loss"] for record in reference[0]], rel=0.03)
    assert all(weight.dtype == torch.float32 for weight in final.values())


@pytest.mark.parametrize(
    ("identity", "message"),
    [
        ({"model": "other", "tokenizers": {"text": "a"}}, "another model"),
        ({"model": "tiny", "tokenizers": {"text": "b"}}, "another tokenizers"),
    ],
)
def test_a_foreign_checkpoint_is_refused_before_anything_is_written(groups, tmp_path, identity, message):
    tiny_run.run(groups, tiny_run.config(300), checkpoints=tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=message):
        tiny_run.run(groups, tiny_run.config(600), checkpoints=tmp_path, identity=identity, resume=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_checkpoints_are_written_and_dropped_by_the_token_clock(groups, tmp_path):
    tiny_run.run(groups, tiny_run.config(2300, every_tokens=500), checkpoints=tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 2
    assert [int(name.removeprefix("tokens-")) // 500 for name in names] == [4, 4]


def test_a_save_that_fails_in_the_background_ends_the_run_before_the_next_is_due(groups, tmp_path, monkeypatch):
    """What was computed until then would be lost with it."""
    steps = []

    def refuse(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    def look(record):
        steps.append(record)
        for thread in threading.enumerate():
            if thread.name == "checkpoint":
                thread.join()

    monkeypatch.setattr(storage, "write_tensors", refuse)
    settings = tiny_run.config(2300, every_tokens=500)
    with pytest.raises(OSError, match="No space left on device"):
        tiny_run.run(groups, settings, checkpoints=tmp_path, reporters=[look])
    due = next(record.step for record in steps if record.tokens >= 500)
    assert steps[-1].step == due + 1
