"""The model in plain torch and transformers: code that travels with a converted checkpoint and needs nothing of ours.

Imports nothing when it is imported: the files need transformers, which only those who convert must have.
"""
