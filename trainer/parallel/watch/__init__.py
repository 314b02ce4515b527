"""A dead or failing rank ends every rank of its run, with the rank and the cause named."""
