"""Which layers each stage of the pipeline holds."""

from triptych.trainer.parallel.layout import ParallelLayout


def split_layers(num_layers: int, num_chunks: int, *, first_cost: float, last_cost: float) -> tuple[int, ...]:
    """Layers of each chunk, in the order of the model: at least one each, the dearest chunk as cheap as it can be.

    first_cost, last_cost: of what the first chunk has besides layers (the embedding) and the last (the heads), in units
    of one layer. ValueError for fewer layers than chunks.

    Each layer goes to the chunk that is cheapest so far. That is exact: it minimises the sum of f(cost) for every
    convex f at once, hence the maximum too (marginal allocation, Gross 1956). Of equal chunks the later one gets the
    layer, since the earlier a stage, the more micro-batches' activations it keeps.
    """
    if not 1 <= num_chunks <= num_layers:
        raise ValueError(f"{num_layers} layers do not fill {num_chunks} chunks of a pipeline; ask for fewer chunks")
    layers = [1] * num_chunks
    costs = [1.0] * num_chunks
    costs[0] += first_cost
    costs[-1] += last_cost
    for _ in range(num_layers - num_chunks):
        cheapest = min(reversed(range(num_chunks)), key=costs.__getitem__)
        layers[cheapest] += 1
        costs[cheapest] += 1.0
    return tuple(layers)


def layers_per_chunk(
    layout: ParallelLayout, num_layers: int, *, first_cost: float = 0.0, last_cost: float = 0.0
) -> tuple[int, ...]:
    """Layers of each chunk, in the order of the model: the layout's own numbers, or `split_layers` where it has none.

    ValueError for numbers of the layout whose sum is not `num_layers`.
    """
    given = layout.stage_layers
    if not given:
        return split_layers(num_layers, layout.num_chunks, first_cost=first_cost, last_cost=last_cost)
    if sum(given) != num_layers:
        raise ValueError(
            f"fit.parallel.stage_layers={list(given)} add up to {sum(given)}, the model has {num_layers} layers; give "
            "that many, or [] to balance them"
        )
    return given


def chunk_layers(
    layout: ParallelLayout,
    num_layers: int,
    stage: int,
    chunk: int,
    *,
    first_cost: float = 0.0,
    last_cost: float = 0.0,
) -> range:
    """Numbers, counted over the whole model from 0, of the layers in model chunk `chunk` of pipeline rank `stage`.

    A rank's chunks are interleaved as megatron-core has them: chunk c of stage s is the (c * pipeline + s)-th of the
    model (Narayanan et al. 2021, arXiv 2104.04473, section 2.2). ValueError as `layers_per_chunk`.
    """
    assert 0 <= stage < layout.pipeline and 0 <= chunk < layout.virtual, (stage, chunk, layout)
    numbers = layers_per_chunk(layout, num_layers, first_cost=first_cost, last_cost=last_cost)
    index = chunk * layout.pipeline + stage
    start = sum(numbers[:index])
    return range(start, start + numbers[index])
