"""Runs: functions that return one typed, frozen tree. The only floor where recipes have names."""
