"""Masked (absorbing-state) discrete diffusion: noise schedules, corruption, samplers. The network is elsewhere."""
