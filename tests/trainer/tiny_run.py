"""A tri-modal run small enough for tests, on made-up codes: the real model, objective, stream and engine."""

import numpy as np
import torch
import torch.distributed as dist

from triptych.data_pipelines.shards.codes import Codes
from triptych.data_pipelines.stream.mixture import Mixture, WeightedSource
from triptych.data_pipelines.stream.sequences import RegionSizes, SequenceLayout
from triptych.data_pipelines.stream.sources import MemoryCodes, PairSource, TextSource
from triptych.data_pipelines.vocabulary import Vocabulary
from triptych.models.trimodal.config import InitConfig, TrimodalConfig
from triptych.models.trimodal.model import TrimodalTransformer
from triptych.trainer.checkpoint.config import CheckpointConfig
from triptych.trainer.engine.config import EngineConfig
from triptych.trainer.fit import fit
from triptych.trainer.fit_config import FitConfig
from triptych.trainer.objectives.masked_diffusion import MaskedDiffusion, MaskedDiffusionConfig
from triptych.trainer.optimizer import AdamWConfig
from triptych.trainer.schedules import LearningRateSchedule

VOCABULARY = Vocabulary(text=40, image=12, audio=20)
LAYOUT = SequenceLayout(vocabulary=VOCABULARY, sequence_length=16, regions=RegionSizes(text=4, image=4, audio=6))
MODEL = TrimodalConfig(
    vocabulary=VOCABULARY,
    sequence_length=16,
    hidden_size=32,
    num_layers=2,
    num_attention_heads=4,
    num_query_groups=2,
    ffn_hidden_size=48,
    init=InitConfig(embedding_std=0.5),
)
IDENTITY = {"model": "tiny", "tokenizers": {"text": "a"}}


def codes(number, low, high, size, seed):
    draw = np.random.default_rng(seed)
    lengths = draw.integers(low, high + 1, number)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Codes(flat=draw.integers(0, size, offsets[-1]).astype(np.int32), offsets=offsets)


def mixture(copies=1):
    text, image, audio = codes(30, 2, 4, 40, 1), codes(30, 4, 4, 12, 2), codes(30, 3, 6, 20, 3)
    return Mixture(
        {
            "text": WeightedSource(
                source=TextSource(MemoryCodes({"text": codes(20, 5, 30, 40, 0)}), LAYOUT, 16), weight=1.0
            ),
            "t2i": WeightedSource(
                source=PairSource("t2i", MemoryCodes({"text": text, "image": image}), LAYOUT), weight=1.0
            ),
            "s2t": WeightedSource(
                source=PairSource("s2t", MemoryCodes({"text": text, "audio": audio}), LAYOUT), weight=0.5
            ),
        },
        seed=5,
        row_length=16,
        pad=VOCABULARY.special("pad"),
        copies=copies,
    )


def config(total_tokens, *, micro=8, zero=1, precision="fp32", every_tokens=0, batch=8):
    return FitConfig(
        seed=11,
        total_tokens=total_tokens,
        logical_batch=batch,
        micro_batch_per_dp_rank=micro,
        optimizer=AdamWConfig(peak_learning_rate=5e-3),
        learning_rate=LearningRateSchedule(warmup_tokens=200),
        engine=EngineConfig(zero_stage=zero, precision=precision),
        checkpoint=CheckpointConfig(every_tokens=every_tokens),
    )


def run(groups, settings, **options):
    """Train; returns the records and the final fp32 weights by name."""
    model = TrimodalTransformer(MODEL, groups.collection)
    model.initialise(seed=3)
    records = []
    state = fit(
        settings,
        chunks=[model],
        objective=MaskedDiffusion(MaskedDiffusionConfig(), VOCABULARY),
        data=mixture(),
        groups=groups,
        checkpoints=options.pop("checkpoints", None),
        identity=options.pop("identity", IDENTITY),
        reporters=[records.append, *options.pop("reporters", [])],
        **options,
    )
    return records, whole_state(state.engine, groups)["weights"]


def whole_state(engine, groups):
    """Part to name to whole tensor, put together from what every rank holds; an element that no rank holds is NaN."""
    everyones = [None] * groups.placement.world_size
    dist.all_gather_object(everyones, held_boxes(engine))
    return put_together(everyones)[0]


def held_boxes(engine):
    """What a rank holds of the state, as values that travel."""
    return [
        (part, name, held.shape, [(box.offsets, box.sizes, box.tensor.clone()) for box in held.boxes])
        for part, names in engine.held().items()
        for name, held in names.items()
    ]


def put_together(everyones):
    """The whole tensors from every rank's boxes, and how far apart copies of one element are."""
    whole, apart = {}, 0.0
    for part, name, shape, boxes in (entry for entries in everyones for entry in entries):
        tensor = whole.setdefault(part, {}).setdefault(name, torch.full(shape, torch.nan))
        for offsets, sizes, values in boxes:
            place = tuple(slice(o, o + n) for o, n in zip(offsets, sizes, strict=True))
            known = ~tensor[place].isnan()
            apart = max(apart, (tensor[place] - values)[known].abs().max().item() if known.any() else 0.0)
            tensor[place] = values
    return whole, apart
