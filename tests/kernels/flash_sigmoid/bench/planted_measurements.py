"""A measurement that does what its contender's name says. Another process imports this: it is small, without torch."""

import math
import os
import signal
import time


def planted(job, device):
    match job.contender:
        case "raises":
            raise RuntimeError("\n  planted fault\nmore of it")
        case "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hangs":
            time.sleep(600)
        case "no number":
            return {"error": math.nan}
    return {"process": float(os.getpid())}
