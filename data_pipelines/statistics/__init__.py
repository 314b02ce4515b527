"""What a set of shards holds, and what packing would do with it: from its manifest and index alone."""
