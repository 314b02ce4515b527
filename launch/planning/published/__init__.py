"""Throughput that others have published, and what the model says to it."""
