"""Results that nobody measured: MADE UP, for tests of what is written about results."""

from triptych.kernels.flash_sigmoid.bench.cases import CONVENTION, NOT_REACHED, Job, Shape

GOAL = Shape(batch=1, length=16384, num_heads=16, head_dim=128)
SHORT = Shape(batch=16, length=1024, num_heads=16, head_dim=128, causal=True)


def timed(contender, milliseconds, *, shape=GOAL, direction="forward", round=0):
    job = Job(kind="time", contender=contender, shape=shape, direction=direction, round=round)
    tflops = shape.operations(direction) / milliseconds / 1e9
    return {**job.to_mapping(), "values": {"milliseconds": milliseconds, "tflops": tflops}}


def failed(contender, reason, **fields):
    job = Job(kind="time", contender=contender, shape=fields.pop("shape", GOAL), **fields)
    return {**job.to_mapping(), "failed": reason}


def other(kind, values, **fields):
    return {**Job(kind=kind, **fields).to_mapping(), "values": values}


def made_up_document(records, device="MADE UP"):
    return {
        "measured": "2000-01-01T00:00:00+0000",
        "command": "made up",
        "commit": "made up",
        "hardware": {"device": device, "multiprocessors": 1},
        "versions": {"torch": "made up", "triton": None},
        "convention": CONVENTION,
        "note": "a made up note",
        "ours": ["triton", "gluon", "triton tanh"],
        "peers": ["sdpa flash", "sdpa cudnn"],
        "goal_shape": {
            "batch": 1,
            "length": 16384,
            "num_heads": 16,
            "head_dim": 128,
            "causal": False,
            "dtype": "bfloat16",
        },
        "records": records,
    }


def made_up_run():
    """Of everything a little: times, a failure, one that was not reached, errors, weights, instructions."""
    errors = {"out": 1e-3, "dq": 2e-3, "dk": 3e-3, "dv": 4e-3, "out_max": 5e-3}
    weights = {"max": 1e-2, "mean": 1e-5, "row_sum": 1e-6, "negative": 0.0}
    return made_up_document(
        [
            other("ceiling", {"tflops": 750.0, "size": 8192}),
            timed("triton", 4.0),
            timed("sdpa flash", 5.0),
            timed("triton", 10.0, direction="backward"),
            timed("triton", 1.0, shape=SHORT),
            failed("gluon", "RuntimeError: planted | with a bar"),
            failed("sdpa cudnn", NOT_REACHED),
            other("error", errors, contender="triton", shape=GOAL),
            other("weights", weights, contender="triton", num_keys=131072),
            other("instructions", {"tanh max absolute": 1e-5}),
        ]
    )
