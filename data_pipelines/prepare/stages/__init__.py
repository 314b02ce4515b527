"""What is done to the parts, one stage after the other: scan, deduplicate, encode, join."""
