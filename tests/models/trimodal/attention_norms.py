"""How large the first layer's attention is beside what it is added to, before a step is taken.

As a command: `python tests/models/trimodal/attention_norms.py models/attention/results/first_layer.md`.
"""

import sys
from pathlib import Path

import torch

from triptych.data_pipelines.vocabulary import Vocabulary
from triptych.models.attention.config import AttentionConfig
from triptych.models.diffusion.inputs import DiffusionInputs
from triptych.models.trimodal.config import InitConfig, TrimodalConfig
from triptych.models.trimodal.model import TrimodalTransformer
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement

VOCABULARY = Vocabulary(text=1024, image=64, audio=64)
ATTENTIONS = {
    "softmax": AttentionConfig(),
    "sigmoid, b = -log n": AttentionConfig(function="sigmoid"),
    "sigmoid, b = 0": AttentionConfig(function="sigmoid", bias=0.0),
}
LENGTHS = (32, 128, 512, 2048)
NUM_TOKENS = 4096


def shape(attention, length, embedding_std=1.0):
    """The demo's widths."""
    return TrimodalConfig(
        vocabulary=VOCABULARY,
        sequence_length=length,
        hidden_size=128,
        num_layers=1,
        num_attention_heads=8,
        num_query_groups=8,
        ffn_hidden_size=344,
        attention=attention,
        init=InitConfig(embedding_std=embedding_std),
    )


def half_masked(length, seed):
    """Text ids at random, half of them masked, as at the middle of a linear schedule."""
    generator = torch.Generator().manual_seed(seed)
    size = (NUM_TOKENS // length, length)
    first = VOCABULARY.codes_start("text")
    tokens_BS = torch.randint(first, first + VOCABULARY.text, size, generator=generator)
    hidden_BS = torch.rand(size, generator=generator) < 0.5
    return DiffusionInputs(
        tokens_BS=tokens_BS.masked_fill(hidden_BS, VOCABULARY.mask),
        rows={"text": torch.zeros(1, dtype=torch.int64)},
        padding_BS=None,
    )


@torch.no_grad()
def attention_over_residual(config, groups, seed=0):
    """Norm of the attention's output over the norm of the residual stream that it is added to."""
    model = TrimodalTransformer(config, groups.collection)
    model.initialise(seed)
    norms = {}
    layer = model.layers["0"]
    layer.input_layernorm.register_forward_hook(lambda _, inputs, output: norms.update(residual=inputs[0].norm()))
    layer.self_attention.register_forward_hook(lambda _, inputs, output: norms.update(attention=output[0].norm()))
    model(half_masked(config.sequence_length, seed))
    return float(norms["attention"] / norms["residual"])


def main(path):
    lines = [
        "# The first layer's attention before the first step",
        "",
        "Norm of the attention branch over that of the residual stream which it is added to; the demo's widths,",
        f"text ids at random, half of them masked, {NUM_TOKENS} positions, seed 0, torch {torch.__version__}.",
        "",
        "| embedding | attention | " + " | ".join(f"n = {length}" for length in LENGTHS) + " |",
        "| --- | --- |" + " ---: |" * len(LENGTHS),
    ]
    with process_groups(Placement()) as groups:
        for std in (1.0, 0.02):
            for name, attention in ATTENTIONS.items():
                ratios = [attention_over_residual(shape(attention, length, std), groups) for length in LENGTHS]
                lines.append(f"| {std} | {name} | " + " | ".join(f"{ratio:.3g}" for ratio in ratios) + " |")
    path.write_text("\n".join(lines) + "\n")
    print(path.read_text())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
