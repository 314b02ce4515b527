"""Core attention: what stands between the QKV projection and the output projection, by megatron-core's protocol."""
