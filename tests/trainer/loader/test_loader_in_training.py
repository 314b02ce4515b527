"""Training through the loader: one run with any number of workers; lost samples are counted, bounded, reported."""

import json
from functools import partial

import loader_runs
import lossy_streams
import pytest
import torch
from lossy_streams import Troubled
from test_loader_workers import DATA, _fork_server  # noqa: F401 - the fixture

from triptych.data_pipelines.stream.windows import source_id
from triptych.trainer.loader.account import account
from triptych.trainer.loader.config import LoaderConfig
from triptych.trainer.loader.losses import LossBudget
from triptych.trainer.loader.stream_data import StreamData
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.layout import ParallelLayout
from triptych.trainer.parallel.placement import Placement

TOKENS = 2500
UNREADABLE = (3, 7)


@pytest.fixture(scope="module")
def groups():
    with process_groups(Placement()) as opened:
        yield opened


@pytest.fixture(scope="module")
def reference(groups, tmp_path_factory):
    """Without workers, in one go: records, state and log."""
    log = tmp_path_factory.mktemp("reference") / "rank0.jsonl"
    records, state = loader_runs.run(groups, loader_runs.settings(TOKENS), StreamData(DATA), log)
    return records, state, log


def test_any_number_of_workers_makes_the_same_run(groups, reference, tmp_path):
    """Bit for bit, across a change of the batch, and across a stop after which another number goes on."""
    for num_workers, then in ((1, 2), (2, 0)):
        log, checkpoints = tmp_path / f"{num_workers}.jsonl", tmp_path / f"checkpoints{num_workers}"
        config = loader_runs.settings(TOKENS, num_workers=num_workers)
        first, _ = loader_runs.run(groups, config, StreamData(DATA), log, checkpoints=checkpoints, stop_after=5)
        config = loader_runs.settings(TOKENS, num_workers=then)
        second, state = loader_runs.run(groups, config, StreamData(DATA), log, checkpoints=checkpoints, resume=True)
        records = first + second
        assert [record.metrics for record in records] == [record.metrics for record in reference[0]]
        assert [record.lost_samples for record in records] == [record.lost_samples for record in reference[0]]
        carried = state.carried["lost_samples"].document()
        assert carried == reference[1].carried["lost_samples"].document()
        assert account(lossy_streams.orders(), state.cursor, state.tokens, [log]) == _account(reference)
    assert len({record.batch for record in reference[0]}) == 2


def _account(reference):
    _, state, log = reference
    return account(lossy_streams.orders(), state.cursor, state.tokens, [log])


def test_planned_is_seen_and_lost_by_id(reference):
    """What was seen comes from the batches themselves, what was lost from the log."""
    records, _, log = reference
    accounts = _account(reference)
    seen = loader_runs.seen_ids(StreamData(DATA), records)
    assert len(set(seen)) == len(seen)
    assert sum(entry.is_complete for entry in accounts) >= 3
    for entry in accounts:
        lost = {(key.sample, key.offset) for key in entry.lost}
        mine = {key[2:] for key in seen if key[:2] == (source_id(entry.source), entry.epoch)}
        assert not mine & lost
        assert (len(mine), len(mine) + len(lost)) == (entry.seen, entry.planned)
        if entry.is_complete and entry.source == "t2i":
            assert {sample for sample, _ in mine | lost} == set(range(30))
            assert {sample for sample, _ in lost} == set(UNREADABLE)
    events = [json.loads(line) for line in log.read_text().splitlines() if '"event"' in line]
    why = {name: events[0][name] for name in ("event", "key", "shard", "reason", "detail", "attempts")}
    assert events[0]["step"] == 1
    assert why == {
        "event": "lost",
        "key": f"k{events[0]['sample']}",
        "shard": "shard-000000.tar",
        "reason": "checksum",
        "detail": "x",
        "attempts": 3,
    }


def test_a_loss_that_was_not_reported_does_not_add_up(reference, tmp_path):
    _, state, log = reference
    lines = log.read_text().splitlines(keepends=True)
    without_one = [line for line in lines if '"event"' not in line]
    first_step = next(number for number, line in enumerate(lines) if '"event"' not in line)
    for text, message in (
        (without_one, "of which 0 are reported; give the logs"),
        (lines[first_step + 1 :], "documents were planned, the steps of"),
    ):
        (tmp_path / "log").write_text("".join(text))
        with pytest.raises(ValueError, match=message):
            account(lossy_streams.orders(), state.cursor, state.tokens, [tmp_path / "log"])


def test_steps_that_were_gone_through_again_count_once(reference, tmp_path):
    """As after a kill and a resume from an older checkpoint; also of a rank that is no more, and had read less."""
    _, state, log = reference
    lines = log.read_text().splitlines(keepends=True)
    (tmp_path / "rank0").write_text("".join(lines[: len(lines) // 2] + lines))
    stale = json.loads(lines[-1]) | {"lost_samples": 1}
    stale["metrics"] = stale["metrics"] | {"loss": 0.5}
    event = {
        "event": "lost",
        "step": stale["step"],
        "source": "text",
        "epoch": 0,
        "sample": 4,
        "offset": 0,
        "reason": "timeout",
    }
    (tmp_path / "rank1").write_text(json.dumps(event) + "\n" + json.dumps(stale) + "\n")
    logs = [tmp_path / "rank0", tmp_path / "rank1"]
    assert account(lossy_streams.orders(), state.cursor, state.tokens, logs) == _account(reference)


def test_the_step_says_how_it_waited_and_where_the_data_stand(groups, reference, tmp_path):
    data = Troubled(DATA, ("sleep", 0.1))
    for num_workers in (0, 1):
        config = loader_runs.settings(400, num_workers=num_workers)
        records, state = loader_runs.run(groups, config, data, tmp_path / f"{num_workers}")
        assert records[0].data_wait_fraction * records[0].seconds >= 0.09
        if not num_workers:
            assert all(record.data_wait_fraction * record.seconds >= 0.09 for record in records)
    assert all(0 <= record.data_wait_fraction <= 1 for record in reference[0])
    last = records[-1].metrics
    assert last["data/share/t2i"] + last["data/share/text"] == pytest.approx(1)
    assert last["data/share/t2i"] == pytest.approx(2 / 3, abs=0.1)
    assert last["data/epoch/t2i"] == StreamData(DATA).describe(state.cursor)["data/epoch/t2i"] > 0


def test_what_was_lost_before_a_stop_is_not_forgiven(groups, tmp_path):
    data = StreamData(partial(lossy_streams.mixture, unreadable=tuple(range(0, 30, 3))))
    strict = loader_runs.settings(TOKENS, max_lost_samples=12, max_lost_fraction=0.0)
    with pytest.raises(ValueError, match=r"1\d of \d+ samples could not be read, more than the 12 .*; mend the shards"):
        loader_runs.run(groups, strict, data, tmp_path / "log")
    steps = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines() if '"event"' not in line]
    assert sum(step["lost_samples"] for step in steps) > 12 >= sum(step["lost_samples"] for step in steps[:-1])
    stopped_at = len(steps) - 1
    folder = tmp_path / "checkpoints"
    loader_runs.run(groups, strict, data, tmp_path / "a", checkpoints=folder, stop_after=stopped_at)
    with pytest.raises(ValueError, match="more than the 12"):
        loader_runs.run(groups, strict, data, tmp_path / "b", checkpoints=folder, resume=True)
    assert len((tmp_path / "b").read_text().splitlines()) == 1 + steps[-1]["lost_samples"]


def test_the_fraction_and_the_number_add_up():
    budget = LossBudget(LoaderConfig(max_lost_samples=2, max_lost_fraction=0.1))
    record = type("Record", (), {"samples": 10, "lost_samples": 3})
    budget.add(record)  # 3 of 10: 2 + 1
    with pytest.raises(ValueError, match=r"6 of 20 .* more than the 4 "):
        budget.add(record)


@pytest.mark.parametrize(
    "setting",
    [
        {"num_workers": -1},
        {"prefetch_batches": 0},
        {"prefetch_batches": 65},
        {"timeout_seconds": 0.0},
        {"max_lost_samples": -1},
        {"max_lost_fraction": 1.5},
    ],
)
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ValueError, match=rf"fit\.loader\.{next(iter(setting))} is .*; set it"):
        LoaderConfig(**setting)


def test_data_that_cannot_be_planned_take_no_workers(groups, tmp_path):
    with pytest.raises(ValueError, match=r"planned without being read; set fit\.loader\.num_workers=0"):
        loader_runs.run(groups, loader_runs.settings(300, num_workers=1), DATA(), tmp_path / "log")


def _rank_with_losses(layout, unreadable_by_rank, total_tokens, loader, folder):
    """What a rank of two, with losses of its own, has come to: losses, events, error, weights' checksum."""
    rank = torch.distributed.get_rank()
    with process_groups(Placement(rank=rank, world_size=2), layout) as groups:
        data = StreamData(partial(lossy_streams.mixture, unreadable=unreadable_by_rank[rank]))
        log = folder / f"rank{rank}.jsonl"
        config = loader_runs.settings(total_tokens, batch=4, **loader)
        try:
            records, state = loader_runs.run(groups, config, data, log)
        except ValueError as error:
            return str(error), log
        lost = sum(record.lost_samples for record in records)
        return loader_runs.losses(records), lost, dict(state.cursor), state.tokens, log


def _two_layouts(folder):
    tensor, limits = folder / "tensor", folder / "limits"
    one_sided = _rank_with_losses(ParallelLayout(tensor=2), ((), UNREADABLE), TOKENS, {}, tensor)
    strict = {"max_lost_samples": 3, "max_lost_fraction": 0.0}
    ended = _rank_with_losses(ParallelLayout(), ((), tuple(range(0, 30, 2))), TOKENS, strict, limits)
    return one_sided, ended


def test_ranks_lose_together(groups, run_processes, tmp_path):
    """Two that hold the same rows train without what one of them cannot read, as a run does that never could; two that
    hold different rows end together, with one text, when the limits are passed.
    """
    (first, end), (second, other_end) = run_processes(_two_layouts, 2, tmp_path)
    config = loader_runs.settings(TOKENS, batch=4)
    alone, state = loader_runs.run(groups, config, StreamData(DATA), tmp_path / "alone")
    assert first[:4] == second[:4]
    assert first[0] == pytest.approx(loader_runs.losses(alone), rel=1e-5)
    assert first[1] == sum(record.lost_samples for record in alone) > 0
    assert (first[2], first[3]) == (state.cursor, state.tokens)
    accounts = account(lossy_streams.orders(), first[2], first[3], [first[4], second[4]])
    assert accounts == account(lossy_streams.orders(), first[2], first[3], [tmp_path / "alone"])
    assert "lost" not in {json.loads(line).get("event") for line in first[4].read_text().splitlines()}
    assert end[0] == other_end[0]
    assert "samples could not be read, more than the 3 that" in end[0]
    assert len({path.read_text().count('"gradient_norm"') for path in (end[1], other_end[1])}) == 1
