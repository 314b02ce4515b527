"""The tri-modal transformer over one stream of tokens.

Shape legend: S positions, B sequences, H hidden size, R masked rows of one modality, V ids of one modality.
"""

import copy
import functools
from collections.abc import Mapping
from typing import Any

import torch
from megatron.core.enums import ModelType
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.tensor_parallel import (
    ColumnParallelLinear,
    VocabParallelEmbedding,
    gather_from_sequence_parallel_region,
)
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.spec_utils import build_module
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from triptych.data_pipelines.vocabulary import MODALITIES, Modality
from triptych.models.attention.documents import DocumentRows
from triptych.models.diffusion.inputs import DiffusionInputs
from triptych.models.dropout import DropoutKeys
from triptych.models.initialisation import initialise
from triptych.models.norms import RMSNorm, shared_parameter
from triptych.models.parameterization import VECTORS, mark_kinds
from triptych.models.sharding import mark_sharded_parameters
from triptych.models.trimodal.config import TrimodalConfig
from triptych.models.trimodal.execution import Execution
from triptych.models.trimodal.kinds import kind_of_name
from triptych.models.trimodal.layers import layer_spec, megatron_config
from triptych.models.trimodal.positions import rotary_angles


class TrimodalTransformer(nn.Module):
    """Bidirectional transformer with one untied head per modality, run on masked rows only.

    Layers are keyed by their number in the whole model, and both ends are optional, so that a pipeline stage is the
    same class with the same parameter names.
    """

    def __init__(
        self, config: TrimodalConfig, groups: ProcessGroupCollection, execution: Execution | None = None
    ) -> None:
        super().__init__()
        execution = execution or Execution()
        layers = range(config.num_layers) if execution.layers is None else execution.layers
        self.shape = config
        self.config = megatron_config(config, groups, execution)  # megatron-core's schedules look for these two names
        self.model_type = ModelType.encoder_or_decoder
        self._recompute_layers = execution.recompute == "full"
        self._tensor_group = groups.tp
        self._received: Tensor | None = None
        self.embedding = _embedding(config, self.config, groups) if 0 in layers else None
        self.positions = _learned_positions(config) if 0 in layers else None
        self.layers = nn.ModuleDict()
        for i in layers:
            spec = layer_spec(config, groups, execution, i)
            layer: Any = build_module(spec, config=self.config, layer_number=i + 1, pg_collection=groups)
            self.layers[str(i)] = layer
        reads_out = config.num_layers - 1 in layers
        self.final_norm = RMSNorm(self.config, config.hidden_size, config.norm_epsilon) if reads_out else None
        self.heads = _heads(config, self.config, groups) if reads_out else None
        mark_sharded_parameters(self)
        mark_kinds(self, kind_of_name)

    def set_input_tensor(self, received: Any) -> None:
        """megatron-core's schedules leave here what the stage before has sent; a list of one, [None] on the first."""
        self._received = received[0] if isinstance(received, list) else received

    def forward(self, inputs: DiffusionInputs) -> Any:
        """Logits of each modality's masked rows over that modality's ids (column 0 is END), in the order of
        `inputs.rows`: [R, V], padded columns included, V split over the tensor-parallel ranks.

        A chunk without the heads returns its hidden state [S, B, H], S split over the tensor-parallel ranks under
        sequence parallelism.
        """
        sequence_length = inputs.tokens_BS.shape[1]
        documents = None if inputs.documents is None else inputs.documents.laid_out(sequence_length)
        hidden_SBH = self._received if self.embedding is None else self._embed(self.embedding, inputs, documents)
        assert hidden_SBH is not None
        rotation = rotary_angles(sequence_length, self.shape.head_dim, self.shape.rope_base, hidden_SBH.device)
        mask_B11S = None if inputs.padding_BS is None else inputs.padding_BS[:, None, None, :]
        keys = self._dropout_keys(inputs, hidden_SBH.shape[0])
        for layer in self.layers.values():
            run = functools.partial(
                _run,
                layer,
                keys,
                attention_mask=mask_B11S,
                rotary_pos_emb=rotation,
                packed_seq_params=documents,
            )
            if self._recompute_layers and self.training:
                # No random state to keep: what is random in the model is keyed by name.
                hidden_SBH = checkpoint(run, hidden_SBH, use_reentrant=False, preserve_rng_state=False)
            else:
                hidden_SBH = run(hidden_SBH)
        if self.heads is None:
            return hidden_SBH
        if self.config.sequence_parallel:
            # Every rank goes on with the same whole sequence, so each has the whole gradient: split it, do not sum it.
            hidden_SBH = gather_from_sequence_parallel_region(
                hidden_SBH, tensor_parallel_output_grad=False, group=self._tensor_group
            )
        return self._read_out(hidden_SBH, inputs.rows)

    def _embed(self, embedding: nn.Module, inputs: DiffusionInputs, documents: DocumentRows | None) -> Tensor:
        """[S, B, H], S split over the tensor-parallel ranks under sequence parallelism."""
        hidden = embedding(inputs.tokens_BS)
        if self.config.sequence_parallel:
            hidden_SBH, group = hidden, self._tensor_group  # it has been transposed before it was scattered
        else:
            hidden_SBH, group = hidden.transpose(0, 1).contiguous(), None
        if self.positions is None:
            return hidden_SBH
        positions_SH = shared_parameter(self.positions, group)
        first = 0 if group is None else group.rank() * hidden_SBH.shape[0]
        mine = slice(first, first + hidden_SBH.shape[0])
        if documents is None:
            # Rows of one document each: what is behind the last position that is learned is padding.
            position_S = torch.arange(inputs.tokens_BS.shape[1], device=positions_SH.device)
            positions_SB = position_S.clamp(max=len(positions_SH) - 1)[:, None]
        else:
            positions_SB = documents.positions.T  # from the beginning of each document
        return hidden_SBH + torch.nn.functional.embedding(positions_SB[mine], positions_SH)

    def _dropout_keys(self, inputs: DiffusionInputs, num_positions: int) -> DropoutKeys | None:
        """For this rank's positions; None where nothing is dropped."""
        if inputs.keys is None or not self.training or self.shape.dropout == 0:
            return None
        first = self._tensor_group.rank() * num_positions if self.config.sequence_parallel else 0
        return DropoutKeys.of(inputs.keys.stream, inputs.keys.samples_B3, inputs.keys.copies_B, first)

    def _read_out(self, hidden_SBH: Tensor, rows: Mapping[Modality, Tensor]) -> dict[Modality, Tensor]:
        """Normalise and project the asked-for rows only; `rows` holds flat indices b*S + s."""
        assert self.heads is not None and self.final_norm is not None
        sequence, batch, hidden = hidden_SBH.shape
        flat = hidden_SBH.view(sequence * batch, hidden)
        logits: dict[Modality, Tensor] = {}
        for modality, indices_R in rows.items():
            picked_RH = flat.index_select(0, indices_R % sequence * batch + indices_R // sequence)
            logits[modality] = self.heads[modality](self.final_norm(picked_RH))[0]
        return logits

    def initialise(self, seed: int) -> None:
        """Fill the weights by the table below, keyed by name."""
        initialise(self, self._standard_deviation, seed, self._tensor_group)

    def _standard_deviation(self, name: str, shape: tuple[int, ...]) -> float | None:
        """The table of initial standard deviations; None keeps what gains and biases are built with. In Complete(d)P's
        terms (arXiv 2512.22382): 1, m_N^-1 and, as fan-ins grow with the width, m_N^-1/2 times the base's.
        """
        init = self.shape.init
        match kind_of_name(name):
            case "embedding":
                return init.embedding_std
            case "readout":
                return init.readout_std / self.shape.shape_ratio.width
            case kind if kind in VECTORS:
                return None
            case _:
                return init.hidden_gain / shape[1] ** 0.5


def _run(layer: Any, keys: DropoutKeys | None, hidden_SBH: Tensor, **arguments: Any) -> Tensor:
    """A layer on one micro-batch. The keys go in here, not once per forward pass: when activations are recomputed, the
    passes of other micro-batches lie between.
    """
    layer.self_attn_bda.keys = layer.mlp_bda.keys = keys
    hidden_SBH, _ = layer(hidden_SBH, **arguments)
    return hidden_SBH


def _embedding(
    config: TrimodalConfig, megatron: TransformerConfig, groups: ProcessGroupCollection
) -> VocabParallelEmbedding:
    return VocabParallelEmbedding(
        config.embedding_rows,
        config.hidden_size,
        init_method=_keep,
        config=megatron,
        reduce_scatter_embeddings=megatron.sequence_parallel,
        tp_group=groups.tp,
    )


def _heads(config: TrimodalConfig, megatron: TransformerConfig, groups: ProcessGroupCollection) -> nn.ModuleDict:
    """One projection per modality. Their rows are picked from the whole sequence, on every rank alike."""
    whole_sequence = copy.copy(megatron)
    whole_sequence.sequence_parallel = False
    return nn.ModuleDict(
        {
            modality: ColumnParallelLinear(
                config.hidden_size,
                config.head_columns(modality),
                config=whole_sequence,
                init_method=_keep,
                bias=False,
                gather_output=False,
                tp_group=groups.tp,
            )
            for modality in MODALITIES
        }
    )


def _learned_positions(config: TrimodalConfig) -> nn.Parameter | None:
    """[S, H], or None where rotary positions are the only ones."""
    if config.positions == "rotary":
        return None
    return nn.Parameter(torch.zeros(config.sequence_length, config.hidden_size))


def _keep(weight: Tensor) -> Tensor:
    """An initialiser that leaves the weight alone: `initialise` fills it by name."""
    return weight
