"""Commands around a run: measure it, plan it, convert it, serve it, find out how it ended."""
