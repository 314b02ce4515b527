"""Runs of the tri-modal masked diffusion model (arXiv 2602.21472), from a laptop's minutes to the paper's 3B
parameters.

What the paper gives: a bidirectional transformer on one stream of tokens, aspect ratio width/depth 128, a 320M pilot
(240M of it embeddings) on 13B tokens at batch 256, a 3B model on 6.4T tokens, AdamW with a cosine after 1,000 steps of
warmup. Heads, FFN width, vocabulary, sequence length and every optimizer value are our choices; the three large runs
have not been trained yet.
"""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from triptych.configs.layouts import layout_plan, predicted_shares, tokens_per_row
from triptych.configs.token_data import SourceConfig, TokenDataConfig, Tokenizers, build_mixture, require_vocabulary
from triptych.configs.watching import WatchingConfig
from triptych.data_pipelines.corpus.splits import Split
from triptych.data_pipelines.stream.mixture import Mixture
from triptych.data_pipelines.stream.sequences import RegionSizes, SequenceLayout
from triptych.data_pipelines.stream.windows import PackingConfig
from triptych.data_pipelines.tokenizers.protocol import fingerprints_of
from triptych.data_pipelines.vocabulary import MODALITIES, Vocabulary
from triptych.models.diffusion.sampling import MaskGit, ModalitySamplers, SamplerConfig
from triptych.models.parameterization import BaseShape
from triptych.models.trimodal.config import InitConfig, TrimodalConfig
from triptych.models.trimodal.execution import Execution
from triptych.models.trimodal.model import TrimodalTransformer
from triptych.trainer.checkpoint.config import CheckpointConfig
from triptych.trainer.engine.config import EngineConfig
from triptych.trainer.fit_config import FitConfig
from triptych.trainer.loader.config import LoaderConfig
from triptych.trainer.objectives.masked_diffusion import MaskedDiffusion, MaskedDiffusionConfig
from triptych.trainer.optimizer import AdamWConfig
from triptych.trainer.parallel.groups import Groups
from triptych.trainer.parallel.plan import Plan
from triptych.trainer.parallel.stages import chunk_layers
from triptych.trainer.scaling.config import RunFacts, ScalingConfig
from triptych.trainer.schedules import LearningRateSchedule


@dataclass(kw_only=True, slots=True, frozen=True)
class EvaluationConfig:
    """num_pairs: held-out pairs per task to generate from. num_nelbo_draws: noise draws per held-out sequence."""

    num_pairs: int = 200
    num_nelbo_draws: int = 4
    batch_size: int = 64


@dataclass(kw_only=True, slots=True, frozen=True)
class TrimodalRun:
    """Everything that decides a run of the tri-modal model."""

    name: str
    model: TrimodalConfig
    data: TokenDataConfig
    fit: FitConfig
    objective: MaskedDiffusionConfig = field(default_factory=MaskedDiffusionConfig)
    sampling: ModalitySamplers = field(default_factory=ModalitySamplers)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    watch: WatchingConfig = field(default_factory=WatchingConfig)

    @property
    def data_folder(self) -> Path:
        return Path(self.data.folder)

    @property
    def layout(self) -> SequenceLayout:
        return SequenceLayout(
            vocabulary=self.model.vocabulary, sequence_length=self.model.sequence_length, regions=self.data.regions
        )

    @property
    def row_length(self) -> int:
        """Positions of a row, in which one or several documents are."""
        return self.data.row_length(self.model.sequence_length)

    @property
    def stage_costs(self) -> tuple[float, float]:
        """Compute of the model's two ends in units of a layer, by which the stages of a pipeline are balanced."""
        return self.model.stage_costs(predicted_shares(self.layout, self.data))

    @property
    def facts(self) -> RunFacts:
        """What scaling must know of the run."""
        return RunFacts(
            shape=self.model.shape_ratio,
            tokens_per_row=tokens_per_row(self.layout, self.data),
            rows_together=self._copies("train"),
            gradient_parts={"all": "", **{modality: f"heads.{modality}." for modality in MODALITIES}},
        )

    def plan(self, world_size: int) -> Plan:
        """The run on `world_size` processes, as `require_layout` judges it."""
        return layout_plan(
            self.model,
            self.fit,
            world_size=world_size,
            row_length=self.row_length,
            rows_together=self._copies("train"),
        )

    def build_model(self, groups: Groups) -> TrimodalTransformer:
        """The model with its initial weights, on the CPU."""
        model = TrimodalTransformer(self.model, groups.collection)
        model.initialise(self.fit.seed)
        return model

    def build_chunks(self, groups: Groups) -> list[TrimodalTransformer]:
        """This process's pieces of the model with their initial weights, on the CPU."""
        first_cost, last_cost = self.stage_costs
        chunks = []
        for chunk in range(groups.layout.virtual):
            layers = chunk_layers(
                groups.layout,
                self.model.num_layers,
                groups.stage,
                chunk,
                first_cost=first_cost,
                last_cost=last_cost,
            )
            execution = Execution(
                layers=layers,
                sequence_parallel=groups.layout.sequence,
                recompute=self.fit.recompute,
            )
            chunks.append(TrimodalTransformer(self.model, groups.collection, execution))
            chunks[-1].initialise(self.fit.seed)
        return chunks

    def build_objective(self, split: Split = "train", groups: Groups | None = None) -> MaskedDiffusion:
        """The run's objective; held-out sequences come once each, so complement pairs are for training alone. groups:
        those that the model is split over, if it is.
        """
        config = self.objective if split == "train" else replace(self.objective, pairing="independent")
        return MaskedDiffusion(config, self.model.vocabulary, None if groups is None else groups.collection.tp)

    def build_mixture(self, tokenizers: Tokenizers, split: Split) -> Mixture:
        """The run's mixture of tasks over a split. ValueError if shards, tokenizers and vocabulary do not belong
        together.
        """
        require_vocabulary(self.model.vocabulary, tokenizers)
        copies = self._copies(split)
        prints = fingerprints_of(tokenizers)
        return build_mixture(self.data, self.layout, prints, split=split, seed=self.fit.seed, copies=copies)

    def _copies(self, split: Split) -> int:
        """How often each sequence comes, in a row."""
        return 2 if self.objective.pairing == "complement" and split == "train" else 1

    def identity(self, tokenizers: Tokenizers) -> dict[str, Any]:
        """What a checkpoint must agree with: the model's shape and the tokenizers' fingerprints."""
        return {"model": asdict(self.model), "tokenizers": fingerprints_of(tokenizers)}


def trimodal_demo() -> TrimodalRun:
    """The whole system in minutes: prose, handwritten digits with captions, spoken digits.

    Command: `triptych demo`, or its last part alone: `triptych train trimodal_demo`. Hardware: 2 CPU cores. The numbers
    that it reaches are in the README.
    """
    return TrimodalRun(
        name="trimodal_demo",
        model=TrimodalConfig(
            vocabulary=Vocabulary(text=1024, image=64, audio=64),
            sequence_length=28,
            hidden_size=128,
            num_layers=3,
            num_attention_heads=8,
            num_query_groups=8,
            ffn_hidden_size=344,
            positions="rotary_and_learned",
            init=InitConfig(embedding_std=1.0),
        ),
        data=TokenDataConfig(
            folder="data/demo",
            regions=RegionSizes(text=6, image=16, audio=12),
            sources={
                "text": SourceConfig(task="text", shards="text", weight=0.24),
                "t2i": SourceConfig(task="t2i", shards="digits", weight=0.18),
                "i2t": SourceConfig(task="i2t", shards="digits", weight=0.30),
                "t2s": SourceConfig(task="t2s", shards="speech", weight=0.14),
                "s2t": SourceConfig(task="s2t", shards="speech", weight=0.14),
            },
            # Four digits of 25 positions, five recordings of 21, or text. Longer rows leave less padding, but a step
            # of fewer documents learns captions sooner: LOG.md, 2026-11-24.
            packing=PackingConfig(row_length=105),
        ),
        fit=FitConfig(
            seed=0,
            total_tokens=3_500_000,
            logical_batch=4,
            micro_batch_per_dp_rank=4,
            optimizer=AdamWConfig(peak_learning_rate=3e-3, betas=(0.9, 0.98), weight_decay=0.1),
            learning_rate=LearningRateSchedule(warmup_tokens=100_000),
            checkpoint=CheckpointConfig(every_tokens=500_000),
        ),
        watch=WatchingConfig(samples_every_tokens=1_000_000),
        # Guidance hurts speech here: 0.70 of 200 words recognised at 1, 0.90 at 0, 0.16 at 3 (one model, one seed).
        sampling=ModalitySamplers(
            audio=SamplerConfig(num_steps=24, rule=MaskGit(choice_temperature=1.0), temperature=0.7)
        ),
    )


def trimodal_320m() -> TrimodalRun:
    """The paper's pilot size: 325M parameters, 241M of them embeddings and heads, on 13B tokens at batch 256 (here 32
    rows of eight times the length).

    Command: `torchrun --nproc_per_node 8 -m triptych.launch.train trimodal_320m`. Hardware: one node of 8 GPUs; hours
    unmeasured.
    """
    return _large("trimodal_320m", layers=8, query_groups=2, batch=PILOT_BATCH, tokens=PILOT_TOKENS)


def trimodal_1b() -> TrimodalRun:
    """1.2B parameters on 280B tokens, near the paper's compute-optimal D*(N) = 7754 N^0.84 for a billion.

    Command: `torchrun ... -m triptych.launch.train trimodal_1b`. Hardware: several nodes of 8 GPUs; hours unmeasured.
    """
    return _large("trimodal_1b", layers=16, query_groups=4, batch=128, tokens=280_000_000_000)


def trimodal_3b() -> TrimodalRun:
    """The paper's full size: 24 layers of 3072, 3.0B parameters on 6.4T tokens, nine times past compute-optimal.

    Command: `torchrun ... -m triptych.launch.train trimodal_3b`. Hardware: a cluster; hours unmeasured. The batch of
    512 rows, 4,096 sequences, is near the logical batch that the paper's rule gives from its pilot, 489: `--explain`.
    """
    return _large("trimodal_3b", layers=24, query_groups=8, batch=512, tokens=6_400_000_000_000)


PILOT_BATCH, PILOT_TOKENS = 32, 13_000_000_000


def _large(name: str, *, layers: int, query_groups: int, batch: int, tokens: int) -> TrimodalRun:
    """The common form of the large runs: width 128 per layer, heads of 128, FFN 2.5 times the width, documents of
    up to 2,048 positions, packed into rows of 16,384.

    The optimizer's values are stated once, for the pilot: 320M parameters, 32 rows (256 sequences), 13B tokens, the
    paper's base point. Every run's own follow by its rule for batch and horizon (exponent 0.44) and by Complete(d)P for
    width and depth. The values themselves are our guess: the paper gives none.

    Attention stays within documents, so long rows cost nothing and are what leaves little padding: 13 pairs of image
    and caption fill one to 99.9 %, ten of text and speech to about 97 %. The regions were chosen for that.

    The vocabulary holds a text tokenizer of cl100k's size, an image code book of 16,384 (32 x 32 codes an image) and
    eight audio code books of 1,024 read as one (200 codes a second): sizes that fit the paper's count of embedding
    parameters, our reading of it.
    """
    width, sequence_length, row_length = 128 * layers, 2048, 16_384
    warmup = min(1000 * batch * row_length, tokens // 4)
    pilot = BaseShape(hidden_size=1024, num_layers=8, num_attention_heads=8, ffn_hidden_size=2560)
    sources: dict[str, SourceConfig] = {
        "text": SourceConfig(task="text", shards="text", weight=0.5),
        "t2i": SourceConfig(task="t2i", shards="images", weight=0.15),
        "i2t": SourceConfig(task="i2t", shards="images", weight=0.1),
        "t2s": SourceConfig(task="t2s", shards="speech", weight=0.15),
        "s2t": SourceConfig(task="s2t", shards="speech", weight=0.1),
    }
    return TrimodalRun(
        name=name,
        model=TrimodalConfig(
            vocabulary=Vocabulary(text=100_277, image=16_384, audio=1_024),
            sequence_length=sequence_length,
            hidden_size=width,
            num_layers=layers,
            num_attention_heads=layers,
            num_query_groups=query_groups,
            ffn_hidden_size=5 * width // 2,
            vocabulary_multiple=128,
            base=pilot,
        ),
        data=TokenDataConfig(
            folder="data/trimodal",
            regions=RegionSizes(text=232, image=1024, audio=1544, condition_multiple=32),
            sources=sources,
            packing=PackingConfig(row_length=row_length),
        ),
        fit=FitConfig(
            seed=0,
            total_tokens=tokens,
            logical_batch=PILOT_BATCH,
            physical_batch=batch,
            scaling=ScalingConfig(base_tokens=PILOT_TOKENS),
            micro_batch_per_dp_rank=1,
            optimizer=AdamWConfig(peak_learning_rate=1e-3),
            learning_rate=LearningRateSchedule(warmup_tokens=warmup, final_fraction=0.1),
            engine=EngineConfig(precision="bf16"),
            checkpoint=CheckpointConfig(every_tokens=tokens // 200, keep_last=3),
            loader=LoaderConfig(num_workers=2),
        ),
    )
