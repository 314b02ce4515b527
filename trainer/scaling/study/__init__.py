"""Toys that show what the scaling rules hold for and where they end; each is a module to run, about a minute long."""
