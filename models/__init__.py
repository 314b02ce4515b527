"""Architectures and what belongs to them: sharding, initialisation, noise schedules, samplers."""
