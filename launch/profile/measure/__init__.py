"""Steps of a run that are timed: at full speed, by part, and under torch's profiler."""
