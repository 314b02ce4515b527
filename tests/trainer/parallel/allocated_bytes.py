"""What torch's allocator on the CPU gives out, as `torch.cuda.max_memory_allocated` says it of a GPU."""

import json
import tempfile
from pathlib import Path

from torch.profiler import ProfilerActivity, profile


def peak_allocated(function):
    """Bytes that were given out at most while the function ran. What was there before does not count, nor what a
    process holds that is no tensor.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        function()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiled.export_chrome_trace(str(path))
        events = [event for event in json.loads(path.read_text())["traceEvents"] if event["name"] == "[memory]"]
    # The allocator's own sum, which the order of events that share a moment does not change.
    totals = [event["args"]["Total Allocated"] for event in events]
    first = min(events, key=lambda event: event["ts"])["args"]
    return max(totals) - (first["Total Allocated"] - first["Bytes"])
