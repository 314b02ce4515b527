"""Who can compute an attention, who does, and why not another."""
