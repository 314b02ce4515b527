"""Sigmoid attention in the place of Transformer Engine's DotProductAttention. Transformer Engine need not be there."""
