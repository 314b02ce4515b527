"""What became of a run: each way to end is named by kind, rank, step and sample, from what it leaves alone."""

import errno
import json

import pytest
import tiny_run
from left_behind import NOW, Left

from triptych.data_pipelines.shards import atomic
from triptych.launch.commands.operating.postmortem import postmortem
from triptych.launch.postmortem.evidence import gather
from triptych.launch.postmortem.page import render
from triptych.launch.postmortem.verdict import judge, timeline
from triptych.launch.run_directory import RunDirectory
from triptych.trainer.checkpoint.disk.folders import complete_checkpoints
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement

PLACE = "after step 12, 120 tokens, in trainer.step.train_step"
SAMPLES = [{"source": "t2i", "epoch": 1, "sample": 7, "offset": 0}]
SKIPPED = {"kind": "not_finite", "cause": "the loss of rank 1 (node1) was not finite", "samples": SAMPLES}
LOST = {
    "source": "text", "epoch": 0, "sample": 3, "offset": 0, "key": "k", "shard": "shard-4.tar", "reason": "checksum",
    "detail": "of member 3", "attempts": 2,
}  # fmt: skip


def verdict(left):
    return judge(gather(RunDirectory(folder=left.folder), now=NOW))


def both(folder, events=()):
    """Two ranks with logs and fresh heartbeats."""
    left = Left(folder)
    for rank in range(2):
        left.steps(rank, events=events).beat(rank)
    return left


ENDS = [
    ("no sign of life for 5 s, and a connection broke: killed", PLACE, 1, "killed", "was killed"),
    ("no sign of life for 30 s: killed, out of memory", PLACE, 1, "killed", "fell silent after step 12: stopped"),
    ("hung in its data for 300 s, while the others wait for it", PLACE, 1, "hung", "hung after step 12"),
    ("replicas differ after step 4: the checksum of x is 1 on rank 1 (n)", "", 1, "diverged", "no longer the same run"),
    ("checkpoint could not be written (rank 1: OSError: [Errno 28] No space left on device); free disk space", "", 2,
     "disk", "refused by its disk"),
    ("101 of 900 samples could not be read, more than the 100; mend the shards", "", 2, "data", "could not read"),
    ("no checkpoint is sound (a is damaged); restore one", "", 2, "checkpoint", "checkpoint"),
    ("ended by SIGTERM", "", 143, "stopped", "ended by a signal"),
    ("fit.seed: a number; give one", "", 2, "refused", "refused"),
    ("KeyError: 'x'", "", 1, "error", "failed"),
    ("KeyError: 'checkpointed_layers.sharded'", "", 1, "error", "failed"),
]  # fmt: skip


@pytest.mark.parametrize(("cause", "place", "code", "kind", "says"), ENDS)
def test_an_end_is_named(tmp_path, cause, place, code, kind, says):
    left = both(tmp_path / "run").end(0, rank=1, host="node1", cause=cause, place=place, code=code)
    found = verdict(left)
    assert (found.kind, found.rank, found.host, found.cause) == (kind, 1, "node1", cause)
    assert says in found.headline
    assert found.grade == ("odd" if kind == "stopped" else "bad")


def test_of_several_ends_the_first_of_its_own_counts(tmp_path):
    left = both(tmp_path / "run")
    left.end(0, age=9.0, rank=1, host="node1", cause="its connections closed: killed", place=PLACE)
    left.end(1, age=8.0, rank=1, host="node1", cause="ValueError: the true cause")
    assert verdict(left).cause == "ValueError: the true cause"


def test_a_rank_that_was_stopped_says_so_when_it_comes_back(tmp_path):
    left = both(tmp_path / "run").end(0, age=60.0, rank=1, host="node1", cause="no sign of life for 30 s", place=PLACE)
    left.end(1, rank=1, host="node1", cause="was stopped for 90 s, and the others have ended without it")
    assert verdict(left).kind == "paused"


def test_trouble_is_named_by_the_step_and_samples_with_which_it_began(tmp_path):
    events = [(step, "skipped", SKIPPED) for step in (4, 9, 10, 11)] + [(12, "unhealthy", SKIPPED)]
    cause = "the loss of rank 1 (node1) was not finite in step 12, after 3 skipped steps in a row"
    found = verdict(both(tmp_path / "run", events).end(0, rank=None, cause=cause, code=2))
    assert (found.kind, found.rank, found.step) == ("unhealthy", 1, 9)
    assert found.sample == "the batch of step 9: t2i 7 (epoch 1), t2i 7 (epoch 1)"  # each rank names its own
    assert any("4 steps were left out" in finding.text for finding in found.findings)


def test_a_killed_job_is_named_by_whose_heart_stopped_first(tmp_path):
    left = both(tmp_path / "run").beat(0, age=100.0).beat(1, age=160.0)
    (left.folder / "slurm-5.out").write_text("slurmstepd: error: Detected 1 oom-kill event(s)\n")
    found = verdict(left)
    assert (found.kind, found.rank, found.step) == ("killed", 1, 12)
    assert "ran out of memory" in found.headline and "60 s before" in found.certainty


def test_a_run_is_alive_by_its_heartbeats(tmp_path):
    found = verdict(both(tmp_path / "run"))
    assert (found.kind, found.grade) == ("running", "good")
    assert "2 of 2 ranks" in found.headline


@pytest.mark.parametrize("state", ["finished", "stopped"])
def test_a_run_that_left_in_order(tmp_path, state):
    left = both(tmp_path / "run", [(5, "rolled_back", SKIPPED), (6, "lost", LOST)])
    for rank in range(2):
        left.beat(rank, state=state, age=1e6)
    found = verdict(left)
    assert found.kind == state
    texts = " ".join(finding.text for finding in found.findings)
    assert "1 times the run went back to a checkpoint; the first in step 5" in texts
    assert "1 samples could not be read; the first: text 3 (epoch 0) of shard-4.tar: checksum (of member 3)" in texts


def test_an_end_that_was_resumed_from_is_over(tmp_path):
    left = both(tmp_path / "run").end(0, age=1e5, rank=1, host="node1", cause="no sign of life")
    assert verdict(left.steps(0, 14)).kind == "running"


def test_an_end_before_the_first_step_of_a_resumed_run_is_over(tmp_path):
    left = both(tmp_path / "run").end(0, age=1e5, rank=1, host="node1", cause="no sign of life")
    assert verdict(left.beat(0, phase="start")).kind == "running"


def test_nothing_is_there_before_a_run_begins(tmp_path):
    assert verdict(Left(tmp_path / "run")).kind == "never began"
    with pytest.raises(ValueError, match="holds no run"):
        gather(RunDirectory(folder=tmp_path / "other"))


def test_logs_without_heartbeats_are_of_a_run_that_did_begin(tmp_path):
    found = verdict(Left(tmp_path / "run").steps(0, 7))
    assert (found.kind, found.step) == ("killed", 7)


def test_the_collective_to_which_a_rank_never_came(tmp_path):
    left = both(tmp_path / "run").end(0, rank=None, cause="all ranks have waited for each other in x for 9 s")
    (left.folder / "dumps").mkdir()
    for rank, states in enumerate([["completed", "started"], ["completed"]]):
        entries = [
            {"process_group": ["0", "default_pg"], "collective_seq_id": number, "state": state,
             "profiling_name": "nccl:all_reduce", "input_sizes": [[2]]}
            for number, state in enumerate(states, 1)
        ]  # fmt: skip
        (left.folder / "dumps" / f"rank{rank}.collectives.json").write_text(json.dumps({"entries": entries}))
    found = verdict(left)
    assert found.rank == 1
    assert found.collective == "rank 1 never came to all_reduce number 2 of group 0 default_pg, in which 1 ranks wait"


def test_damaged_checkpoints_are_named_with_what_a_resume_goes_on_from(tmp_path):
    left = both(tmp_path / "run")
    with process_groups(Placement()) as groups:
        tiny_run.run(groups, tiny_run.config(600, every_tokens=300), checkpoints=left.folder / "checkpoints")
    older, newest = complete_checkpoints(left.folder / "checkpoints")
    path = max(newest.glob("*.safetensors"), key=lambda each: each.stat().st_size)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    (finding,) = verdict(left).findings
    assert finding.grade == "bad"
    assert newest.name in finding.text and path.name in finding.text
    assert finding.text.endswith(f"a resume goes on from {older.name}")


def test_the_timeline_has_each_sessions_end_once(tmp_path):
    """NOW is a whole minute, which the ranks of the second session end before and after."""
    left = both(tmp_path / "run")
    for rank, ages in enumerate([(300.0, 1.0), (299.0, -1.0)]):
        for age in ages:
            left.end(rank, age=age, rank=1, host="node1", cause="no sign of life for 5 s", place=PLACE)
    ends = [[rank.number for rank in by] for _, by in timeline(gather(RunDirectory(folder=left.folder), now=NOW))]
    assert NOW % 60 == 0 and ends == [[0, 1], [0, 1]]


def test_the_page_stands_alone_and_obeys_nobody(tmp_path):
    left = both(tmp_path / "run", [(5, "skipped", SKIPPED | {"cause": "<script>alert(1)</script>"})])
    left.end(0, rank=1, host="<b>", cause="<img src=x onerror=y>")
    (left.folder / "logs" / "rank0.jsonl").open("a").write('{"event": "strange"}\n{"event"broken\n')
    evidence = gather(RunDirectory(folder=left.folder), now=NOW)
    page = render(evidence, judge(evidence))
    assert "<script" not in page and "<img" not in page and "<b>" not in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "&lt;script&gt;alert(1)" in page


def test_where_the_page_cannot_be_written_the_verdict_is_told(tmp_path, monkeypatch, capsys):
    def refuse(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic, "replace_file", refuse)
    left = both(tmp_path / "run").end(0, rank=None, host="", cause="No space left on device", place="", code=2)
    postmortem(left.folder, None, as_json=True)
    told = capsys.readouterr()
    assert (json.loads(told.out)["kind"], json.loads(told.out)["step"]) == ("disk", 12)
    assert "No space left on device); name another place with --out" in told.err
