"""Whether a drill came out as it must. Pure: nothing is read or started here."""

from dataclasses import dataclass, field

from faults import ANY

TIMES = ("seconds", "data_wait_fraction", "busy_seconds")
"""Fields of a step that differ from one run to the next."""
NOT_OF_A_SKIPPED_STEP = ("metrics", "gradient_norm")


@dataclass(kw_only=True, slots=True)
class Outcome:
    """What came of a drill. fault: what was done, in words. ended_seconds: from the fault until no process was left,
    None if some had to be killed. verdict: the postmortem's JSON before the run was started again, None if it gave
    none; refused: what it said instead. records: of all starts. num_before: how many of these are of the first.
    resumed_from: tokens, 0 for the start. hit: tokens of a checkpoint that the fault itself made useless (being
    written, or damaged), None if there is none. curve: "equal" or "differs" once it has been compared.
    """

    fault: str = ""
    ended_seconds: float | None = None
    verdict: dict | None = None
    refused: str = ""
    records: list = field(default_factory=list)
    num_before: int = 0
    resumed_from: int = 0
    hit: int | None = None
    has_finished: bool = False
    curve: str = ""
    failures: list = field(default_factory=list)

    @property
    def furthest(self):
        """Tokens of the last step before the fault whose update was made: what was left out cannot be lost."""
        done = [record["tokens"] for record in self.records[: self.num_before] if record["is_updated"]]
        return max(done, default=0)

    @property
    def lost_tokens(self):
        """How far the run was thrown back; 0 for one that was not started again."""
        return max(0, self.furthest - self.resumed_from) if self.num_before < len(self.records) else 0


def loss_fault(outcome, every_tokens, *, loses_nothing=False):
    """What is wrong with how far the run was thrown back, "" if nothing.

    A checkpoint is due at the first step past a multiple of `every_tokens`, so an interval is that and at most a step.
    Where the fault struck the newest checkpoint itself, the interval ends where that one was taken.
    """
    if loses_nothing and outcome.lost_tokens:
        return f"{outcome.lost_tokens} tokens lost by a stop that should lose none"
    longest = max((record["batch_tokens"] for record in outcome.records), default=0)
    until = outcome.furthest if outcome.hit is None else min(outcome.hit, outcome.furthest)
    if outcome.num_before < len(outcome.records) and until - outcome.resumed_from > every_tokens + longest:
        return f"{until - outcome.resumed_from} tokens lost, an interval is {every_tokens}"
    return ""


def curve_fault(records, reference, *, skipped=()):
    """The first difference of any step of any start from the undisturbed run's; "" if every bit is equal.

    skipped: steps that were left out: their loss is not compared, that they were left out is.
    """
    wanted = {record["step"]: record for record in reference}
    if {record["step"] for record in records} != wanted.keys():
        return f"steps {sorted(wanted.keys() ^ {record['step'] for record in records})} are missing or too many"
    for record in records:
        step = record["step"]
        if (step in skipped) == record["is_updated"]:
            return f"step {step} {'was updated' if record['is_updated'] else 'was left out'}"
        left_out = (*TIMES, "is_updated", *(NOT_OF_A_SKIPPED_STEP if step in skipped else ()))
        for name in record.keys() - set(left_out):
            if repr(record[name]) != repr(wanted[step].get(name)):
                return f"{name} of step {step} is {record[name]!r}, not {wanted[step].get(name)!r}"
    return ""


def naming_fault(verdict, refused, naming):
    """What the postmortem got wrong; "" if it named the fault."""
    if verdict is None:
        return "" if naming.is_refused and "holds no run" in refused else f"no verdict ({refused.strip()[-200:]})"
    if verdict["kind"] not in naming.kinds:
        return f"kind is {verdict['kind']}, not {' or '.join(naming.kinds)} ({verdict['headline']})"
    if naming.rank is not ANY and verdict["rank"] != naming.rank and verdict["kind"] != "never began":
        return f"rank is {verdict['rank']}, not {naming.rank} ({verdict['headline']})"
    if naming.step is not ANY and verdict["step"] not in naming.step and verdict["kind"] != "never began":
        return f"step is {verdict['step']}, not {naming.step[0]}..{naming.step[-1]} ({verdict['headline']})"
    if naming.names_sample and not verdict["sample"]:
        return "no sample is named"
    told = " ".join([verdict["headline"], verdict["cause"], *(each["text"] for each in verdict["findings"])])
    missing = [words for words in naming.says if words not in told]
    if naming.says_one_of and not any(words in told for words in naming.says_one_of):
        missing.append(" or ".join(naming.says_one_of))
    return f"does not say {missing} ({told[:200]})" if missing else ""
