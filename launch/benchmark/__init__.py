"""`python -m triptych.launch.benchmark RUN`: how fast a run trains on this hardware, without its data."""
