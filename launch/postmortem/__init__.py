"""What became of a run, from what it left in its directory: nothing of it needs to be alive."""
