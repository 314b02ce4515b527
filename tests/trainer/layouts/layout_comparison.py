"""How far two runs are apart, and how far they may be. The matrix and the planted bugs use the very same check."""

import math

FP32_BOUNDS = {
    # Relative, of every step.
    "loss": 1e-6,
    "gradient norm": 1e-5,
    # Of max(1, |value|): a metric over a handful of tokens is no mean of many.
    "metrics": 1e-5,
    "accuracy": 1e-5,
    # Absolute, of every element.
    "weights": 1e-5,
    # Of the tensor's largest element. A norm's gain has a gradient that cancels over positions to a tenth of its terms,
    # so ten times what the norm of all gradients is held to; a square's relative error is twice that.
    "exp_avg": 1e-4,
    "exp_avg_sq": 2e-4,
    # What all ranks hold or report alike is alike bit for bit; tokens are counted.
    "tokens": 0.0,
    "ranks": 0.0,
    "copies": 0.0,
}


def differences(outcome, reference):
    """Quantity to the largest difference over steps and elements; infinite where something is missing."""
    pairs = list(zip(outcome.steps, reference.steps, strict=False))
    same_names = all(a[0].keys() == b[0].keys() for a, b in pairs) and len(outcome.steps) == len(reference.steps)
    found = {
        "loss": largest(abs(a[0]["loss"] - b[0]["loss"]) / abs(b[0]["loss"]) for a, b in pairs),
        "gradient norm": largest(abs(a[1] - b[1]) / b[1] for a, b in pairs),
        "metrics": math.inf,
        "accuracy": math.inf,
        "tokens": float(sum(a[2] != b[2] for a, b in pairs) + abs(len(outcome.steps) - len(reference.steps))),
        "ranks": 0.0 if outcome.ranks_agree else math.inf,
        "copies": outcome.copies_apart,
    }
    if same_names:
        names = {name for step in reference.steps for name in step[0]}
        for kind, wanted in (("metrics", False), ("accuracy", True)):
            found[kind] = largest(
                abs(a[0][name] - b[0][name]) / max(1.0, abs(b[0][name]))
                for a, b in pairs
                for name in names & b[0].keys()
                if name.startswith("accuracy") == wanted
            )
    for part, theirs in reference.state.items():
        ours = outcome.state[part]
        if ours.keys() != theirs.keys():
            found[part] = math.inf
        elif part == "weights":
            found[part] = largest((ours[name] - theirs[name]).abs().max().item() for name in theirs)
        else:
            found[part] = largest(
                ((ours[name] - theirs[name]).abs().max() / theirs[name].abs().max()).item() for name in theirs
            )
    return found


def largest(values):
    """The maximum, infinite if any is NaN."""
    values = list(values)
    return math.inf if any(math.isnan(value) for value in values) else max(values)


def broken(found, bounds):
    """Quantity to (difference, bound), where the one is over the other."""
    return {name: (value, bounds[name]) for name, value in found.items() if not value <= bounds[name]}


def bounds_from_rounding(reference, others, factor=3.0):
    """Bounds from runs that differ in rounding alone: `factor` times the most that one of `others` is off `reference`,
    in each quantity.

    A run that rounds otherwise again is as far from the reference as these are, in distribution, and each difference is
    a maximum over many elements and steps, which varies little; 3 is our margin. What is exact stays exact. Accuracy is
    bounded by nothing: logits of 8 bits tie often, and one row more or less is not small.
    """
    found = [differences(other, reference) for other in others]
    scaled = {name: factor * max(each[name] for each in found) if FP32_BOUNDS[name] else 0.0 for name in FP32_BOUNDS}
    return {**scaled, "accuracy": math.inf}


def same(first, second):
    """Whether two runs are alike bit for bit."""
    return first.steps == second.steps and all(
        first.state[part][name].equal(tensor) for part, names in second.state.items() for name, tensor in names.items()
    )
