"""A process that reads mutated files until it is told how many, or dies of one: started by fuzz_readers.py.

    fuzz_worker.py cases SEED FIRST LAST STRIDE TARGETS...   cases FIRST, FIRST + STRIDE, ... below LAST
    fuzz_worker.py file PATH TARGET                          one file
    fuzz_worker.py hostile                                   every file of hostile_files.py

On standard output a line of JSON per event: {"at": number} before a case, {"finding": ...}, {"counts": ...} at times.
"""

import json
import os
import resource
import sys
import time
from collections import Counter

_ROOM_BYTES = 1 << 30
_REPORT_SECONDS = 1.0


def limit_memory():
    """No more than _ROOM_BYTES beyond what the process has mapped now; no core files."""
    with open("/proc/self/statm") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + _ROOM_BYTES, mapped + _ROOM_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def say(**event):
    """One line to the parent, at once."""
    os.write(1, (json.dumps(event) + "\n").encode())


def warm_up(oracle):
    """Read every seed, so that every library is loaded before memory is limited. Their outcomes by target."""
    from reader_targets import TARGETS

    return {
        target.name: [outcome.as_json() for data in target.seeds() for outcome in oracle.judge(target, data)]
        for target in TARGETS
    }


def main():
    """Judge what the command line says."""
    import hostile_files
    from cases import case
    from oracle import Oracle
    from reader_targets import BY_NAME

    oracle = Oracle()
    say(seeds=warm_up(oracle))
    limit_memory()
    kind, *arguments = sys.argv[1:]
    if kind == "file":
        with open(arguments[0], "rb") as file:
            data = file.read()
        say(outcomes=[outcome.as_json() for outcome in oracle.judge(BY_NAME[arguments[1]], data)])
        return
    if kind == "hostile":
        for name, stages in hostile_files.cases():
            say(hostile=name, outcomes=[outcome.as_json() for outcome in oracle.judge_stages(stages)])
        return
    seed, first, last, stride = map(int, arguments[:4])
    counts, slowest, reported = Counter(), {}, time.monotonic()
    for number in range(first, last, stride):
        say(at=number)
        target, data = case(seed, number, frozenset(arguments[4:]))
        for outcome in oracle.judge(target, data):
            counts[f"{target.name}: {outcome.kind}"] += 1
            slowest[target.name] = max(slowest.get(target.name, 0.0), outcome.seconds)
            if outcome.is_finding:
                say(finding={"case": number, "target": target.name, **outcome.as_json()})
                if outcome.kind == "growth":  # the peak stays: a new process measures from below
                    say(counts=counts, slowest=slowest, next=number + stride)
                    return
        if time.monotonic() - reported > _REPORT_SECONDS:
            say(counts=counts, slowest=slowest)
            counts, reported = Counter(), time.monotonic()
    say(counts=counts, slowest=slowest, next=last)


if __name__ == "__main__":
    main()
