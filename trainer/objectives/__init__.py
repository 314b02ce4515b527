"""Objectives: corruption and loss of each kind of training, on the `Objective` seam."""
