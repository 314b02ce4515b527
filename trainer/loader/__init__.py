"""Batches made ready before the step asks for them, by processes of their own; what could not be read, counted."""
