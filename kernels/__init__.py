"""Numerical kernels, one folder each: reference, implementation, mathematics, benchmark. Imports nothing of triptych."""
