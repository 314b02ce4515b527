"""What a run will cost on a cluster before it is started: time, memory, the best layouts, failures, money."""
