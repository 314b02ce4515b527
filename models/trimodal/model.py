"""The tri-modal transformer over one stream of tokens.

Shape legend: S positions, B sequences, H hidden size, R masked rows of one modality, V ids of one modality.
"""

from collections.abc import Mapping
from typing import Any

import torch
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.tensor_parallel import ColumnParallelLinear, VocabParallelEmbedding
from megatron.core.transformer.spec_utils import build_module
from torch import Tensor, nn

from triptych.data_pipelines.vocabulary import MODALITIES, Modality
from triptych.models.diffusion.inputs import DiffusionInputs
from triptych.models.initialisation import initialise
from triptych.models.norms import RMSNorm
from triptych.models.trimodal.config import TrimodalConfig
from triptych.models.trimodal.layers import layer_spec, megatron_config
from triptych.models.trimodal.positions import rotary_angles


class TrimodalTransformer(nn.Module):
    """Bidirectional transformer with one untied head per modality, run on masked rows only.

    Layers are keyed by their number in the whole model, and both ends are optional, so that a pipeline stage is the
    same class with the same parameter names.
    """

    def __init__(self, config: TrimodalConfig, groups: ProcessGroupCollection) -> None:
        super().__init__()
        self.shape = config
        self.config = megatron_config(config)  # megatron-core's schedules look for it under this name
        spec = layer_spec(config)
        self.embedding = VocabParallelEmbedding(
            config.vocabulary.size, config.hidden_size, init_method=_keep, config=self.config, tp_group=groups.tp
        )
        self.positions = _learned_positions(config)
        self.layers = nn.ModuleDict()
        for i in range(config.num_layers):
            layer: Any = build_module(spec, config=self.config, layer_number=i + 1, pg_collection=groups)
            self.layers[str(i)] = layer
        self.final_norm = RMSNorm(self.config, config.hidden_size, config.norm_epsilon)
        self.heads = nn.ModuleDict(
            {
                modality: ColumnParallelLinear(
                    config.hidden_size,
                    config.vocabulary.num_outputs(modality),
                    config=self.config,
                    init_method=_keep,
                    bias=False,
                    gather_output=False,
                    tp_group=groups.tp,
                )
                for modality in MODALITIES
            }
        )

    def forward(self, inputs: DiffusionInputs) -> dict[Modality, Tensor]:
        """Logits [R, V] of each modality's masked rows over that modality's ids (column 0 is END), in the order of
        `inputs.rows`.
        """
        hidden_SBH = self.embedding(inputs.tokens_BS).transpose(0, 1).contiguous()
        if self.positions is not None:
            hidden_SBH = hidden_SBH + self.positions[: hidden_SBH.shape[0], None]
        rotation = rotary_angles(hidden_SBH.shape[0], self.shape.head_dim, self.shape.rope_base, hidden_SBH.device)
        mask_B11S = None if inputs.padding_BS is None else inputs.padding_BS[:, None, None, :]
        for layer in self.layers.values():
            hidden_SBH, _ = layer(hidden_SBH, attention_mask=mask_B11S, rotary_pos_emb=rotation)
        return self._read_out(hidden_SBH, inputs.rows)

    def _read_out(self, hidden_SBH: Tensor, rows: Mapping[Modality, Tensor]) -> dict[Modality, Tensor]:
        """Normalise and project the asked-for rows only; `rows` holds flat indices b*S + s."""
        sequence, batch, hidden = hidden_SBH.shape
        flat = hidden_SBH.view(sequence * batch, hidden)
        logits: dict[Modality, Tensor] = {}
        for modality, indices_R in rows.items():
            picked_RH = flat.index_select(0, indices_R % sequence * batch + indices_R // sequence)
            logits[modality] = self.heads[modality](self.final_norm(picked_RH))[0]
        return logits

    def initialise(self, seed: int) -> None:
        """Fill the weights by the table below, keyed by name."""
        initialise(self, self._standard_deviation, seed)

    def _standard_deviation(self, name: str, parameter: Tensor) -> float | None:
        """The table of initial standard deviations; None keeps the norms' ones."""
        init = self.shape.init
        if name.startswith("embedding.") or name == "positions":
            return init.embedding_std
        if name.startswith("heads."):
            return init.readout_std
        if parameter.dim() == 2:
            return init.hidden_gain / parameter.shape[1] ** 0.5
        return None


def _learned_positions(config: TrimodalConfig) -> nn.Parameter | None:
    """[S, H], or None where rotary positions are the only ones."""
    if config.positions == "rotary":
        return None
    return nn.Parameter(torch.zeros(config.sequence_length, config.hidden_size))


def _keep(weight: Tensor) -> Tensor:
    """An initialiser that leaves the weight alone: `initialise` fills it by name."""
    return weight
