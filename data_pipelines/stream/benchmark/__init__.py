"""The token stream against its peers: the same tokens, each in its own format, packed to the same rows, in one run."""
