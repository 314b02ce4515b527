"""DeepSpeed as the trainer sees it, with megatron-core's pipeline schedules in front of it. `config` imports neither."""
