"""Devices and the networks between them, with the source of each figure."""
