"""What became of the documents that a run planned."""
