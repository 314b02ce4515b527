"""Checkpoints of several makes into Hugging Face folders and native checkpoints, one parameter in memory at a time."""
