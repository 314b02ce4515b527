"""What torch's allocator on the CPU gives out, as `torch.cuda.max_memory_allocated` says it of a GPU."""

import itertools

from torch.profiler import ProfilerActivity, profile


def peak_allocated(function):
    """Bytes that were given out at most while the function ran. What was there before does not count, nor what a
    process holds that is no tensor.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        function()
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(itertools.accumulate(changes))
