"""Run directories as runs leave them, made by the classes that write them."""

import json
from dataclasses import asdict
from datetime import UTC, datetime

from triptych.trainer.logs import JsonLines
from triptych.trainer.metrics import StepRecord
from triptych.trainer.parallel.watch.heart import Heartbeat
from triptych.trainer.parallel.watch.obituary import Obituary

NOW = 1_800_000_000.0


class Left:
    """A run of two ranks, 12 steps long unless said otherwise."""

    def __init__(self, folder, world_size=2):
        self.folder, self.world_size = folder, world_size
        (folder / "logs").mkdir(parents=True)
        (folder / "heartbeats").mkdir()
        (folder / "run.yaml").write_text("command: triptych train x\ncommit: abc\nrun: {name: trimodal_demo}\n")

    def steps(self, rank, number=12, events=()):
        """A log: events are (step, name, facts)."""
        with JsonLines(self.folder / "logs" / f"rank{rank}.jsonl") as log:
            for step in range(1, number + 1):
                for at, name, facts in events:
                    if at == step:
                        log.note(name, {"step": step, **facts})
                log(record(step))
        return self

    def beat(self, rank, *, age=2.0, state="running", step=12, phase="forward_backward", meets=True, still=1.0):
        """A heartbeat, so many seconds old."""
        beat = Heartbeat(
            rank=rank,
            world_size=self.world_size,
            host=f"node{rank}",
            pid=7,
            time=NOW - age,
            state=state,
            step=step,
            tokens=10 * step,
            phase=phase,
            place="trainer.parallel.groups.any_rank" if meets else "trainer.loader.waiting.wait",
            meets=meets,
            still_seconds=still,
            step_seconds=0.1,
            resident_bytes=5 * 2**20,
            beat_seconds=1.0,
        )
        (self.folder / "heartbeats" / f"rank{rank}.json").write_text(json.dumps(asdict(beat)))
        return self

    def end(self, by, *, age=1.0, **obituary):
        """The event by which a rank ended."""
        when = datetime.fromtimestamp(NOW - age, UTC).isoformat(timespec="seconds")
        event = {"event": "end", "time": when, **asdict(Obituary(**obituary))}
        with (self.folder / "logs" / f"rank{by}.jsonl").open("a") as file:
            file.write(json.dumps(event) + "\n")
        return self


def record(step):
    return StepRecord(
        step=step,
        tokens=10 * step,
        total_tokens=1000,
        batch_tokens=10,
        batch=4,
        kappa=1.0,
        seconds=0.1,
        learning_rate=0.1,
        gradient_norm=1.0,
        metrics={"loss": 1.0},
    )
