"""Averages of the model's weights: exponential (EMA) and uniform (SWA, Polyak-Ruppert), any number at once.

An average is sharded as the optimizer's fp32 master weights are: a rank averages the fragments that it holds, in fp32,
in place, and says nothing to the others. Its clock is tokens and logical updates (optimizer steps in units of the
logical batch), so that the physical batch does not change it.
"""
