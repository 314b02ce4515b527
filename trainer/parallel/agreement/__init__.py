"""Whether all ranks still hold the same run."""
