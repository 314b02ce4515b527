"""One drill from its start to its judgement."""

import threading
import time
from dataclasses import replace

from faults import damage_data, fault_of, read_verdict
from judgement import Outcome, curve_fault, loss_fault, naming_fault
from launching import run_command
from plans import EVERY_TOKENS, Drill
from scene import Scene
from troubles import Trouble

START_SECONDS, END_SECONDS = 300.0, 120.0
"""To come to the moment, or through a whole run; from the fault to the end of all processes. Times the patience."""
FRESH_SECONDS = 25.0
"""A process that died without a word is taken to be running until its heartbeat is old; asked again until then."""


def carry_out(drill, folder, world, references, *, patience=1.0, strikes=True):
    """The outcome, its failures filled in. references: gives an undisturbed run. strikes: False leaves the fault out,
    which must show.
    """
    outcome = Outcome()
    with Scene(drill, folder, world) as scene:
        scene.notes["sound data"] = world.data
        try:
            _drill(scene, outcome, patience, strikes)
            if outcome.has_finished or not outcome.failures:
                _judge(scene, outcome, references)
        except Exception as error:  # noqa: BLE001 - one drill that cannot be carried out is one that failed
            outcome.failures.append(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    return outcome


def _drill(scene, outcome, patience, strikes):
    drill, fault = scene.drill, fault_of(scene.drill)
    if drill.kind == "corrupt shard" and strikes:
        damage_data(scene)
    if not strikes:
        drill.trouble = None
    scene.start()
    struck_at = time.monotonic()
    if drill.moment is not None:
        if not scene.wait_for_moment(START_SECONDS * patience):
            outcome.failures.append(f"did not come to its moment: {scene.ranks.codes} {scene.said()[-300:]}")
            return
        time.sleep(drill.delay_seconds)
        before = set(scene.checkpoints())
        struck_at = time.monotonic()
        if strikes:
            fault.strike(scene)
        (scene.attempt / "struck").touch()
    else:
        before = set()
    besides = (drill.victim,) if fault.leaves_stopped and strikes else ()
    limit = (START_SECONDS if fault.survives or drill.moment is None else END_SECONDS) * patience
    if scene.ranks.wait(limit, besides=besides):
        outcome.ended_seconds = time.monotonic() - struck_at
    else:
        outcome.failures.append(f"had not ended after {limit:.0f} s: {scene.ranks.codes}")
    scene.notes["codes"] = scene.ranks.codes
    scene.end_attempt()
    outcome.records = scene.notes["records"] = scene.records()
    outcome.num_before = len(outcome.records)
    _find_hit(scene, outcome, before)
    _ask(scene, outcome)
    if outcome.failures:
        return
    naming = fault.naming(scene) if strikes or drill.kind != "corrupt checkpoint" else None
    if naming is not None and (complaint := naming_fault(outcome.verdict, outcome.refused, naming)):
        outcome.failures.append(f"not named: {complaint}")
    elif naming is None:
        outcome.failures.append("not named: nothing was damaged")
    _go_on(scene, outcome, fault, patience)


def _find_hit(scene, outcome, before):
    """Tokens of the checkpoint that the fault made useless."""
    if "damaged" in scene.notes:
        outcome.hit = scene.notes["damaged"]
    elif (scene.run / "checkpoints").is_dir():
        partial = [path.name for path in (scene.run / "checkpoints").glob(".partial-tokens-*")]
        if partial:
            outcome.hit = int(partial[0].rpartition("-")[2])
    if scene.drill.moment is not None and scene.drill.moment.phase == "checkpoint" and outcome.hit is None:
        steps = [(record["tokens"], record["tokens"] - record["batch_tokens"]) for record in outcome.records]
        due = [tokens for tokens, last in steps if tokens // EVERY_TOKENS > last // EVERY_TOKENS]
        outcome.hit = min((tokens for tokens in due if tokens > max(before, default=0)), default=None)


def _ask(scene, outcome):
    """The postmortem, as somebody asks for it who finds the run dead."""
    end = time.monotonic() + FRESH_SECONDS
    while True:
        code, out, err = run_command(["postmortem", scene.run, "--json"], scene.folder, "postmortem")
        outcome.verdict, outcome.refused = (read_verdict(out) if code == 0 else None), err
        is_thought_alive = outcome.verdict is not None and outcome.verdict["kind"] == "running"
        if not is_thought_alive or time.monotonic() > end:
            return
        time.sleep(3.0)


def _go_on(scene, outcome, fault, patience):
    fault.mend(scene)
    if fault.survives:
        if any(scene.notes["codes"]):
            outcome.failures.append(f"did not live on: {scene.notes['codes']} {scene.said()[-300:]}")
    else:
        scene.start()
        if not scene.ranks.wait(START_SECONDS * patience):
            outcome.failures.append("started again, it did not come to its end")
        elif any(scene.ranks.codes):
            outcome.failures.append(f"started again, it failed: {scene.ranks.codes} {scene.said()[-400:]}")
        scene.end_attempt()
    outcome.records = scene.records()
    after = outcome.records[outcome.num_before :]
    outcome.resumed_from = after[0]["tokens"] - after[0]["batch_tokens"] if after else outcome.furthest
    outcome.has_finished = (scene.run / "finished").exists()


def _judge(scene, outcome, references):
    drill, fault = scene.drill, fault_of(scene.drill)
    if not outcome.has_finished:
        outcome.failures.append("it has not come to its last token")
        return
    if complaint := loss_fault(outcome, EVERY_TOKENS, loses_nothing=fault.loses_nothing):
        outcome.failures.append(complaint)
    skipped = (drill.trouble.step,) if drill.kind == "NaN, skip" and drill.trouble else ()
    reference, tensors = references.of(drill, scene.notes.get("lost", ()))
    complaints = []
    if complaint := curve_fault(_compared(drill, outcome), reference, skipped=skipped):
        complaints.append(f"another curve: {complaint}")
    if names := _different(tensors, last_tensors(scene)):
        complaints.append(f"other tensors at the end: {names}")
    outcome.curve = "differs" if complaints else "equal"
    outcome.failures += complaints


def _compared(drill, outcome):
    """Steps that must equal the reference's: all but those that a rollback or an end by policy has taken back."""
    if drill.kind in ("NaN, stop", "NaN, roll_back", "NaN, weights"):
        kept = {}
        for record in outcome.records:
            kept[record["step"]] = record  # the later writing counts
        return [kept[step] for step in sorted(kept)]
    return outcome.records


def last_tensors(scene):
    """Name to bytes of the last checkpoint's tensors."""
    (folder,) = sorted((scene.run / "checkpoints").glob("tokens-*"))[-1:]
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


def _different(one, other):
    names = one.keys() | other.keys()
    return ", ".join(sorted(name for name in names if one.get(name) != other.get(name)))


class References:
    """Undisturbed runs, each made once: of a layout, with a step left out or samples unread where policy has it so."""

    def __init__(self, folder, world, *, patience=1.0):
        self._folder, self._world, self._patience = folder, world, patience
        self._made = {}
        self._lock = threading.Lock()

    def of(self, drill, lost):
        """(records, tensors) of the run that a drill must equal."""
        trouble = None
        if drill.kind == "NaN, skip" and drill.trouble is not None:
            trouble = Trouble(kind="left out", step=drill.trouble.step)
        elif lost:
            trouble = Trouble(kind="lost", samples=tuple(lost))
        key = (drill.layout, trouble)
        with self._lock:  # drills that need the same one wait for it
            if key not in self._made:
                self._made[key] = self._make(*key)
            return self._made[key]

    def _make(self, layout, trouble):
        drill = replace(Drill(kind="undisturbed", layout=layout), trouble=trouble)
        with Scene(drill, self._folder / f"reference{len(self._made)}", self._world) as scene:
            scene.start()
            assert scene.ranks.wait(START_SECONDS * self._patience), f"{drill} did not end"
            assert not any(scene.ranks.codes), scene.said()
            scene.end_attempt()
            return scene.records(), last_tensors(scene)
