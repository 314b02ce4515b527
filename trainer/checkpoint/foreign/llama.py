"""Text models in the folders of Hugging Face: LLaDA (arXiv 2502.09992, `model.transformer.blocks.N.q_proj` ...) and the
LLaMA family (`model.layers.N.self_attn.q_proj` ...), as an initialisation of the text part of ours.

Of the embedding and the text head the rows of the text's codes come from there, and those of [MASK] and END from its
mask and end-of-text tokens where it names them; every other row, the other heads, and what it has not (norms of queries
and keys, learned positions) keep their initial values.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from triptych.models.trimodal.config import TrimodalConfig
from triptych.trainer.checkpoint.foreign.llama_config import LlamaShape
from triptych.trainer.checkpoint.foreign.weights import Shapes, Wanted

_INDEX = "model.safetensors.index.json"
_WHOLE = "model.safetensors"


@dataclass(kw_only=True, slots=True, frozen=True)
class _Names:
    """Where one family keeps what a layer has. `{}` is the layer's number."""

    query: str
    key: str
    value: str
    projection: str
    gate: str
    up: str
    down: str
    input_norm: str
    mlp_norm: str
    query_norm: str
    key_norm: str
    embedding: str
    final_norm: str
    head: str


_LLADA = _Names(
    query="model.transformer.blocks.{}.q_proj.weight",
    key="model.transformer.blocks.{}.k_proj.weight",
    value="model.transformer.blocks.{}.v_proj.weight",
    projection="model.transformer.blocks.{}.attn_out.weight",
    gate="model.transformer.blocks.{}.ff_proj.weight",
    up="model.transformer.blocks.{}.up_proj.weight",
    down="model.transformer.blocks.{}.ff_out.weight",
    input_norm="model.transformer.blocks.{}.attn_norm.weight",
    mlp_norm="model.transformer.blocks.{}.ff_norm.weight",
    query_norm="model.transformer.blocks.{}.q_norm.weight",
    key_norm="model.transformer.blocks.{}.k_norm.weight",
    embedding="model.transformer.wte.weight",
    final_norm="model.transformer.ln_f.weight",
    head="model.transformer.ff_out.weight",
)
_LLAMA = _Names(
    query="model.layers.{}.self_attn.q_proj.weight",
    key="model.layers.{}.self_attn.k_proj.weight",
    value="model.layers.{}.self_attn.v_proj.weight",
    projection="model.layers.{}.self_attn.o_proj.weight",
    gate="model.layers.{}.mlp.gate_proj.weight",
    up="model.layers.{}.mlp.up_proj.weight",
    down="model.layers.{}.mlp.down_proj.weight",
    input_norm="model.layers.{}.input_layernorm.weight",
    mlp_norm="model.layers.{}.post_attention_layernorm.weight",
    query_norm="model.layers.{}.self_attn.q_norm.weight",
    key_norm="model.layers.{}.self_attn.k_norm.weight",
    embedding="model.embed_tokens.weight",
    final_norm="model.norm.weight",
    head="lm_head.weight",
)


_NO_WEIGHTS = ("rotary_emb.inv_freq",)
"""What older folders keep of a layer that follows from the config."""


class SafetensorsFolder:
    """Tensors of a Hugging Face folder by name, whole or in shards. ValueError, naming the file, if one is missing or
    damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        if (folder / _INDEX).is_file():
            self._files: Mapping[str, str] = _weight_map(folder / _INDEX)
        else:
            # Other files beside the usual one are somebody else's: an optimizer's, an adapter's, a second format's.
            is_whole = (folder / _WHOLE).is_file()
            names = [_WHOLE] if is_whole else sorted(path.name for path in folder.glob("*.safetensors"))
            if not names:
                raise ValueError(f"{folder} has no *.safetensors; save the model with safe_serialization")
            self._files = {key: name for name in names for key in self._open(name).keys()}  # noqa: SIM118 - no mapping

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def names(self) -> list[str]:
        return list(self._files)

    def shape(self, name: str) -> tuple[int, ...]:
        with self._naming(name):
            return tuple(self._open(self._files[name]).get_slice(name).get_shape())

    def read(self, name: str) -> Tensor:
        """On the CPU, in the file's dtype; the mapped file itself."""
        with self._naming(name):
            return self._open(self._files[name]).get_tensor(name)

    @contextmanager
    def _naming(self, name: str) -> Iterator[None]:
        try:
            yield
        except SafetensorError as error:
            path = self._folder / Path(self._files[name]).name
            raise ValueError(f"{path} is damaged ({' '.join(str(error).split())}); copy it again") from None

    def _open(self, file: str) -> Any:
        path = self._folder / Path(file).name
        try:
            return safe_open(path, framework="pt").__enter__()
        except FileNotFoundError:
            raise ValueError(f"{path} is missing; copy the whole folder") from None
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged ({' '.join(str(error).split())}); copy it again") from None


def _weight_map(path: Path) -> Mapping[str, str]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["weight_map"])
    except (ValueError, KeyError, TypeError) as error:
        line = " ".join(repr(error).split())
        raise ValueError(f"{path} is damaged ({line}); copy it again") from None


def _layer_shapes(names: _Names, model: TrimodalConfig, *, has_norms: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Of a layer's tensors, in the run's sizes."""
    hidden, ffn, keys = model.hidden_size, model.ffn_hidden_size, model.num_query_groups * model.head_dim
    yield from ((name, (hidden, hidden)) for name in (names.query, names.projection))
    yield from ((name, (keys, hidden)) for name in (names.key, names.value))
    yield from ((name, (ffn, hidden)) for name in (names.gate, names.up))
    yield names.down, (hidden, ffn)
    yield from ((name, (hidden,)) for name in (names.input_norm, names.mlp_norm))
    if has_norms:
        yield from ((name, (model.head_dim,)) for name in (names.query_norm, names.key_norm))


class LlamaWeights:
    """Weights of a run whose text part comes from such a folder.

    initial: the run's own initial values, of layer 0 in the place of all layers. ValueError, naming the field, where
    the shapes or the functions of the two models cannot agree. `notes` says in what else they differ, which makes it an
    initialisation and no more.
    """

    def __init__(self, folder: Path, model: TrimodalConfig, wanted: Wanted, initial: Mapping[str, Tensor]) -> None:
        self._folder = SafetensorsFolder(folder)
        self._names = _LLADA if _LLADA.embedding in self._folder else _LLAMA
        if self._names.embedding not in self._folder:
            raise ValueError(f"{folder} has no {_LLAMA.embedding} or {_LLADA.embedding}; give a LLaDA or LLaMA folder")
        self._shape = LlamaShape.read(folder)
        self.notes = self._shape.compare(folder, model, num_rows=self._folder.shape(self._names.embedding)[0])
        has_norms = self._names.query_norm.format(0) in self._folder
        self._require_tensors(folder, model, has_norms=has_norms)
        if has_norms and model.attention.qk_norm == "none":
            raise ValueError(f"{folder} has norms of queries and keys; set model.attention.qk_norm=rms")
        if not has_norms and model.attention.qk_norm == "rms":
            self.notes.append("it has no norms of queries and keys (model.attention.qk_norm=none would agree)")
        self._model, self._wanted, self._initial = model, wanted, initial

    def _require_tensors(self, folder: Path, model: TrimodalConfig, *, has_norms: bool) -> None:
        """Every tensor of the layers is there, in the run's shape, and no other: a bias or a second norm that was left
        out would make another function of them.
        """
        wanted = {self._names.final_norm: (model.hidden_size,)}
        for layer in range(model.num_layers):
            wanted |= {
                name.format(layer): shape for name, shape in _layer_shapes(self._names, model, has_norms=has_norms)
            }
        for name, shape in wanted.items():
            if name not in self._folder:
                raise ValueError(f"{folder} has no {name}; copy the whole folder, or use another source")
            if self._folder.shape(name) != shape:
                raise ValueError(
                    f"{folder}: {name} is {self._folder.shape(name)}, the run's model has {shape}; use a run of the "
                    "source's shapes, or another source"
                )
        layers = self._names.query.partition("{}")[0]
        for name in self._folder.names():
            is_of_layers = name.startswith(layers) and not name.endswith(_NO_WEIGHTS)
            if name not in wanted and (is_of_layers or name.endswith(".bias")):
                raise ValueError(f"{folder} has {name}, for which the model has no place; use another source")

    @property
    def shapes(self) -> Shapes:
        return {name: wanted.shape for name, wanted in self._wanted.items()}

    def read(self, name: str) -> Tensor:
        match name.split("."):
            case ["layers", layer, *rest]:
                return self._of_layer(int(layer), ".".join(rest)).reshape(self._wanted[name].shape)
            case ["embedding", _]:
                return self._rows(name, self._names.embedding, self._model.vocabulary.codes_start("text"), masks=True)
            case ["heads", "text", _]:
                head = self._names.head if self._names.head in self._folder else self._names.embedding
                return self._rows(name, head, 1, masks=False)
            case ["final_norm", _]:
                return self._read(self._names.final_norm)
        return self._initial[name]

    def _of_layer(self, layer: int, rest: str) -> Tensor:
        names = self._names
        match rest:
            case "self_attention.linear_qkv.weight":
                return self._fused(*(self._read(name.format(layer)) for name in (names.query, names.key, names.value)))
            case "mlp.linear_fc1.weight":
                return torch.cat([self._read(names.gate.format(layer)), self._read(names.up.format(layer))])
        simple = {
            "self_attention.linear_proj.weight": names.projection,
            "mlp.linear_fc2.weight": names.down,
            "input_layernorm.weight": names.input_norm,
            "pre_mlp_layernorm.weight": names.mlp_norm,
            "self_attention.q_layernorm.weight": names.query_norm,
            "self_attention.k_layernorm.weight": names.key_norm,
        }
        if rest in simple and simple[rest].format(layer) in self._folder:
            return self._read(simple[rest].format(layer))
        return self._initial[f"layers.0.{rest}"]

    def _fused(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """q q k v of each group, one after another."""
        groups = self._model.num_query_groups
        return torch.cat([x.unflatten(0, (groups, -1)) for x in (query, key, value)], dim=1).flatten(0, 1)

    def _rows(self, name: str, theirs: str, start: int, *, masks: bool) -> Tensor:
        """Our initial values with the rows of text codes from there; [MASK]'s or END's, too."""
        tensor, rows = self._initial[name].clone(), self._folder.read(theirs)
        vocabulary = self._model.vocabulary
        tensor[start : start + vocabulary.text] = rows[: vocabulary.text]
        if masks and self._shape.mask_token is not None:
            tensor[vocabulary.mask] = rows[self._shape.mask_token]
        if self._shape.end_token is not None:
            tensor[start - 1] = rows[self._shape.end_token]
        return tensor

    def _read(self, name: str) -> Tensor:
        if name not in self._folder:
            raise ValueError(f"the source has no {name}; copy the whole folder")
        return self._folder.read(name).to(torch.float32)
