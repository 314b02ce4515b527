"""Numerical kernels, one folder each: reference, code, mathematics, benchmark. They import nothing of triptych."""
