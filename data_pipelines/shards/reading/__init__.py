"""How samples of shards are found and fetched: rows of indices, and members, many at once."""
