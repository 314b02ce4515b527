"""Logs: a line per step that reads back, resumed runs, and no file before the first step."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from triptych.trainer.logs import JsonLines, TensorBoard, append_event, read_records
from triptych.trainer.metrics import StepRecord


def record(tokens, loss=1.0):
    return StepRecord(
        step=tokens // 10,
        tokens=tokens,
        total_tokens=100,
        batch_tokens=10,
        batch=4,
        kappa=1.0,
        seconds=0.5,
        learning_rate=1e-3,
        gradient_norm=2.0,
        metrics={"loss": loss},
    )


def written(path, *records):
    with JsonLines(path) as log:
        for each in records:
            log(each)


def test_records_read_back(tmp_path):
    written(tmp_path / "logs" / "rank0.jsonl", record(10), record(20))
    assert read_records(tmp_path / "logs" / "rank0.jsonl", 100) == [record(10), record(20)]


def test_the_later_writing_of_a_place_counts(tmp_path):
    written(tmp_path / "log", record(10), record(20), record(30))
    written(tmp_path / "log", record(20, loss=5.0))
    assert read_records(tmp_path / "log", 100) == [record(10), record(20, loss=5.0)]


def test_what_lies_beyond_the_checkpoint_is_left_out(tmp_path):
    written(tmp_path / "log", record(10), record(20))
    assert read_records(tmp_path / "log", 10) == [record(10)]


def test_an_event_is_no_step(tmp_path):
    written(tmp_path / "log", record(10))
    append_event(tmp_path / "log", "end", {"rank": 1, "cause": "x"})
    written(tmp_path / "log", record(20))
    assert read_records(tmp_path / "log", 100) == [record(10), record(20)]


def test_a_line_cut_short_by_a_kill_gives_way_to_the_next(tmp_path):
    written(tmp_path / "log", record(10), record(20))
    text = (tmp_path / "log").read_text()
    (tmp_path / "log").write_text(text[:-30])
    written(tmp_path / "log", record(20, loss=5.0))
    assert read_records(tmp_path / "log", 100) == [record(10), record(20, loss=5.0)]


def test_no_step_makes_no_file(tmp_path):
    with JsonLines(tmp_path / "logs" / "rank0.jsonl"), TensorBoard(tmp_path / "tensorboard", 0):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_log_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "logs").write_text("a file")
    with pytest.raises(OSError, match=r"logs/rank0\.jsonl"):
        written(tmp_path / "logs" / "rank0.jsonl", record(10))


def test_tensorboard_has_a_point_every_so_many_tokens(tmp_path):
    with TensorBoard(tmp_path, 25) as board:
        for tokens in range(10, 110, 10):
            board(record(tokens, loss=float(tokens)))
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(t, float(t)) for t in (10, 40, 70, 100)]
    assert {"learning_rate", "gradient_norm", "tokens_per_second"} <= set(events.Tags()["scalars"])
