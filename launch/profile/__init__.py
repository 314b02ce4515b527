"""Where a training step of a run spends time and memory on this hardware, and which settings spend least."""
