"""Feeds the readers of shards mutated files until the time is over.

    python tests/fuzz/fuzz_readers.py --minutes 10 --seed 0
    python tests/fuzz/fuzz_readers.py --cases 4000 --seed 0
    python tests/fuzz/fuzz_readers.py --replay FOLDER/png-000123.json

Each case is read in a process of its own kind, which is limited in memory and killed when it hangs. A reader may give
what it promises or raise ValueError of one line; anything else is a finding, saved with its bytes in --out, to be
replayed. Exit code 1 if there was any. The same seed gives the same cases.
"""

import argparse
import json
import os
import re
import select
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

_WORKER = Path(__file__).with_name("fuzz_worker.py")
_HANG_SECONDS = 30.0  # of the clock, on a machine that may be busy
_START_SECONDS = 300.0
_MOST_SAVED = 5  # of one kind and place


class Worker:
    """A running worker: its events, one at a time."""

    def __init__(self, *arguments):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, str(_WORKER), *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        self._pending = b""
        self._wait = _START_SECONDS

    def event(self):
        """The next event; None once it has ended. TimeoutError if it says nothing for too long."""
        assert self._process.stdout is not None
        while b"\n" not in self._pending:
            if not select.select([self._process.stdout], [], [], self._wait)[0]:
                raise TimeoutError
            more = os.read(self._process.stdout.fileno(), 1 << 16)
            if not more:
                return None
            self._pending += more
        line, _, self._pending = self._pending.partition(b"\n")
        self._wait = _HANG_SECONDS
        return json.loads(line)

    def stop(self):
        """Kill it if it still runs; its exit code."""
        self._process.kill()
        return self._process.wait()


class Campaign:
    """All that was read and found."""

    def __init__(self, seed, out, names):
        self.seed, self.out, self.names = seed, out, names
        self.counts, self.slowest, self.findings = Counter(), {}, []
        self.num_cases = 0
        self._places = Counter()

    def run(self, num_cases, seconds):
        """Read cases 0, 1, ... until so many have been read or so much time is over."""
        end, first = time.monotonic() + seconds, 0
        while first < num_cases and time.monotonic() < end:
            first = self._one_worker(first, num_cases, end)

    def _one_worker(self, first, last, end):
        """Let a worker go on until it ends, dies or hangs; the case to begin the next one with."""
        worker, at = Worker("cases", self.seed, first, last, 1, *self.names), None
        try:
            while (event := worker.event()) is not None:
                if "at" in event:
                    at = event["at"]
                    self.num_cases += 1
                    if time.monotonic() > end:
                        return last
                elif "next" in event:
                    self._count(event)
                    return event["next"]
                else:
                    self._take(event)
        except TimeoutError:
            self._lost(at, "hang", f"nothing for {_HANG_SECONDS:.0f} s")
        else:
            self._lost(at, "crash", f"exit code {worker.stop()}")
        finally:
            worker.stop()
        assert at is not None, "the worker does not start; run it alone to see why"
        return at + 1

    def _take(self, event):
        if "finding" in event:
            self._save(event["finding"])
        elif "counts" in event:
            self._count(event)
        elif "seeds" in event:
            bad = {n: o for n, os_ in event["seeds"].items() for o in os_ if o["kind"] not in ("decoded", "refused")}
            assert not bad, f"sound files are findings: {bad}"

    def _count(self, event):
        self.counts.update(event["counts"])
        for name, seconds in event["slowest"].items():
            self.slowest[name] = max(seconds, self.slowest.get(name, 0.0))

    def _lost(self, number, kind, detail):
        if number is not None:
            self._save({"case": number, "target": self._case(number)[0].name, "kind": kind, "detail": detail})

    def _save(self, finding):
        """Keep the first few of a kind and place."""
        self.findings.append(finding)
        where = finding["detail"].rpartition(" at ")[2][:80] if " at " in finding["detail"] else ""
        place = (finding["target"], finding["kind"], where)
        self._places[place] += 1
        if self._places[place] > _MOST_SAVED:
            return
        self.out.mkdir(parents=True, exist_ok=True)
        path = self.out / f"{re.sub('[ .]', '-', finding['target'])}-{finding['case']:06d}"
        path.with_suffix(".bin").write_bytes(self._case(finding["case"])[1])
        path.with_suffix(".json").write_text(json.dumps({"seed": self.seed, **finding}, indent=1) + "\n")

    def _case(self, number):
        from cases import case

        return case(self.seed, number, self.names)

    def summary(self):
        """All of it, as JSON."""
        places = [{"target": t, "kind": k, "where": w, "number": n} for (t, k, w), n in self._places.most_common()]
        return {
            "seed": self.seed,
            "cases": self.num_cases,
            "counts": dict(sorted(self.counts.items())),
            "slowest_seconds": {name: round(seconds, 3) for name, seconds in sorted(self.slowest.items())},
            "findings": places,
            "details": self.findings[:50],
        }


def replay(path):
    """Outcomes of a saved case, read in a process of its own."""
    saved = json.loads(path.read_text())
    worker = Worker("file", path.with_suffix(".bin"), saved["target"])
    try:
        while (event := worker.event()) is not None:
            if "outcomes" in event:
                return event["outcomes"]
    except TimeoutError:
        return [{"kind": "hang", "detail": f"nothing for {_HANG_SECONDS:.0f} s"}]
    finally:
        code = worker.stop()
    return [{"kind": "crash", "detail": f"exit code {code}"}]


def main():
    """Fuzz or replay, print the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--cases", type=int, default=sys.maxsize, help="stop after so many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", action="append", default=[], help="only this kind of file; may be repeated")
    parser.add_argument("--out", type=Path, default=Path("fuzz_findings"), help="where findings are saved")
    parser.add_argument("--replay", type=Path, help="a saved finding (.json)")
    given = parser.parse_args()
    if given.replay:
        outcomes = replay(given.replay)
        print(json.dumps(outcomes, indent=1))
        return int(any(outcome["kind"] not in ("decoded", "refused") for outcome in outcomes))
    campaign = Campaign(given.seed, given.out, frozenset(given.target))
    began = time.monotonic()
    campaign.run(given.cases, 60 * given.minutes)
    print(json.dumps({**campaign.summary(), "seconds": round(time.monotonic() - began, 1)}, indent=1))
    return int(bool(campaign.findings))


if __name__ == "__main__":
    sys.exit(main())
