"""The token stream: sequences of one length, from a mixture of sources, at a place that is one counter per source."""
