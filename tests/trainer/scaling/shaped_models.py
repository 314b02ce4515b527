"""Tri-modal models that differ in width and depth alone, and their first steps of training."""

import dataclasses
import sys
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from triptych.data_pipelines.vocabulary import MODALITIES
from triptych.models.diffusion.inputs import DiffusionInputs
from triptych.models.parameterization import KINDS, BaseShape, kind_of
from triptych.models.trimodal.config import InitConfig
from triptych.models.trimodal.model import TrimodalTransformer
from triptych.trainer.scaling.rules import AdamWValues, completed_p, decays

_TRAINER = str(Path(__file__).resolve().parents[1])
if _TRAINER not in sys.path:
    sys.path.append(_TRAINER)

import tiny_run  # noqa: E402

HEAD_DIM = 8
NUM_STEPS = 5
VALUES = AdamWValues(learning_rate=1e-2, betas=(0.9, 0.95), epsilon=1e-12, weight_decay=0.1)


def shaped(width, depth, base):
    """A tiny model's settings; its heads are informative from the start."""
    return dataclasses.replace(
        tiny_run.MODEL,
        hidden_size=width,
        num_layers=depth,
        num_attention_heads=width // HEAD_DIM,
        num_query_groups=width // HEAD_DIM // 2,
        ffn_hidden_size=3 * width // 2,
        positions="rotary_and_learned",
        init=InitConfig(embedding_std=1.0, readout_std=0.2),
        base=base,
    )


def base_shape(depth_exponent=1.0, width=32, depth=2):
    return BaseShape(
        hidden_size=width,
        num_layers=depth,
        num_attention_heads=width // HEAD_DIM,
        ffn_hidden_size=3 * width // 2,
        depth_exponent=depth_exponent,
    )


def built(config, groups):
    model = TrimodalTransformer(config, groups.collection)
    model.initialise(seed=3)
    return model


def by_kind(model):
    """Kind to its parameters, in the order of KINDS."""
    found = {kind: [p for p in model.parameters() if kind_of(p) == kind] for kind in KINDS}
    return {kind: parameters for kind, parameters in found.items() if parameters}


def size(tensors):
    """Root mean square of all elements."""
    return torch.cat([tensor.detach().flatten() for tensor in tensors]).square().mean().sqrt().item()


def trained(config, groups):
    """What to size, after some steps of AdamW on one batch; and kind to gradient over epsilon's factor, in the last
    step. Outputs of branches, the stream behind a layer and its change since the start are the largest over layers.
    """
    model, ratio = built(config, groups), config.shape_ratio
    kinds = by_kind(model)
    optimizer = torch.optim.AdamW([{"params": p, **adamw_arguments(kind, ratio)} for kind, p in kinds.items()])
    outputs, (inputs, labels) = watched(model), example()
    at_start = None
    for _ in range(NUM_STEPS):
        logits = model(inputs)
        at_start = at_start or {**outputs, "logits": logits}
        optimizer.zero_grad()
        sum(cross_entropy(logits[modality], labels[modality]) for modality in MODALITIES).backward()
        optimizer.step()
    gradients = {kind: size([p.grad for p in ps]) / completed_p(kind, ratio).epsilon for kind, ps in kinds.items()}
    logits = model(inputs)
    sizes = {what: max(size([outputs[what, i]]) for i in model.layers) for what in ("attention", "mlp", "stream")}
    sizes["stream change"] = max(size([outputs["stream", i] - at_start["stream", i]]) for i in model.layers)
    sizes["logits change"] = size([logits[m] - at_start["logits"][m] for m in MODALITIES])
    return sizes, gradients


def adamw_arguments(kind, ratio):
    values = completed_p(kind, ratio).applied(VALUES)
    return {
        "lr": values.learning_rate,
        "betas": values.betas,
        "eps": values.epsilon,
        "weight_decay": values.weight_decay if decays(kind) else 0.0,
    }


def watched(model):
    """(what, layer) to that output of the latest forward pass."""
    outputs = {}

    def keep(key):
        def hook(module, arguments, output):
            outputs[key] = output[0].detach()

        return hook

    for number, layer in model.layers.items():
        layer.register_forward_hook(keep(("stream", number)))
        layer.self_attention.register_forward_hook(keep(("attention", number)))
        layer.mlp.register_forward_hook(keep(("mlp", number)))
    return outputs


def example():
    """Rows of one modality each, every other position masked; and what is behind the masks."""
    generator, vocabulary = torch.Generator().manual_seed(1), tiny_run.VOCABULARY
    tokens_BS = torch.empty(12, 16, dtype=torch.long)
    rows, labels = {}, {}
    for number, modality in enumerate(MODALITIES):
        drawn = torch.randint(0, vocabulary.num_outputs(modality), (4, 16), generator=generator)
        tokens_BS[4 * number : 4 * number + 4] = drawn + vocabulary.start(modality)
        rows[modality] = torch.arange(64 * number, 64 * number + 64, 2)
        labels[modality] = drawn[:, ::2].flatten()
    tokens_BS[:, ::2] = vocabulary.mask
    return DiffusionInputs(tokens_BS=tokens_BS, rows=rows, padding_BS=None), labels
