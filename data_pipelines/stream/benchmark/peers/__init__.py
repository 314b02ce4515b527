"""One module per loader: how its set is written, its stream of packed batches, and how it goes on from a place."""
