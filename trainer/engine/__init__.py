"""DeepSpeed as the trainer sees it, behind megatron-core's pipeline schedules. `config` imports neither."""
