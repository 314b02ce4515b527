"""Hyper-parameters for the batch, the horizon and the shape that a run has, from those that it states."""
