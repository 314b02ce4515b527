"""Looking at sets of shards: statistics as tables, samples as a page."""
