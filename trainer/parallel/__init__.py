"""Processes, their groups and their device."""
