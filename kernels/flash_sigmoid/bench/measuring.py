"""What each kind of job measures."""

import torch

from triptych.kernels.flash_sigmoid.bench.accuracy import errors, weight_errors
from triptych.kernels.flash_sigmoid.bench.cases import Job
from triptych.kernels.flash_sigmoid.bench.contenders import contender
from triptych.kernels.flash_sigmoid.bench.timing import call_once, matmul_tflops, milliseconds


def measure(job: Job, device_name: str) -> dict[str, float]:
    """The numbers of one job, by name; none for a compilation. What its contender raises passes through."""
    device = torch.device(device_name)
    match job.kind:
        case "compile":
            assert job.shape is not None
            call_once(contender(job.contender), job.shape, device)
            return {}
        case "ceiling":
            return matmul_tflops(device)
        case "instructions":
            from triptych.kernels.flash_sigmoid.bench.instructions import instruction_errors

            return instruction_errors(device)
        case "weights":
            dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
            return weight_errors(contender(job.contender), job.num_keys, dtype, device)
        case "error":
            assert job.shape is not None
            return errors(contender(job.contender), job.shape, device)
        case "time":
            assert job.shape is not None
            taken = milliseconds(contender(job.contender), job.shape, job.direction, device)
            return {"milliseconds": taken, "tflops": job.shape.operations(job.direction) / taken / 1e9}
