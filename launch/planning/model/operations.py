"""Floating-point operations that a step is asked for, two to a multiplication and addition."""

from triptych.launch.planning.model.workload import Workload


def step_operations(work: Workload) -> float:
    """Of a whole step over all devices: three forward passes, over positions that are not padding, heads on the rows
    asked for. All pairs of positions of a document count, also under a causal mask: the custom of PaLM (arXiv
    2204.02311, appendix B), llm-foundry and Megatron-LM.
    """
    shape = work.shape
    dense = 2 * shape.num_layers * shape.layer_parameters
    attention = 4 * shape.num_layers * shape.hidden_size * work.rows.attended
    heads = sum(2 * shape.hidden_size * head.columns * head.share * head.masked for head in shape.heads)
    # Heads are stated of all positions, the others of those that hold tokens.
    return 3 * (work.tokens * (dense + attention) + work.batch * work.rows.length * heads)
