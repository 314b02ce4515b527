"""Weights of other libraries' checkpoints, read one whole parameter at a time: DeepSpeed's, Megatron's, Hugging Face's.

None of these libraries is imported, and nothing that is read is executed: pickles are read as tensors and plain data,
and whatever else they hold is refused.
"""
