"""Where things lie in a Hugging Face folder of ours.

config.json   generation_config.json   run.yaml   README.md   *_triptych.py
model.safetensors, or model-00001-of-0000N.safetensors and model.safetensors.index.json
tokenizer.json   tokenizer_config.json   tokenizers/{text,image,audio}/
"""

import json
from pathlib import Path
from typing import Any

CONFIG = "config.json"
GENERATION = "generation_config.json"
RUN = "run.yaml"
TOKENIZERS = "tokenizers"
MODEL = "model.safetensors"
INDEX = "model.safetensors.index.json"


def folder_kind(folder: Path) -> str | None:
    """The `model_type` of a Hugging Face folder; "" if its config names none; None if there is no config."""
    config = _config(folder)
    return None if config is None else str(config.get("model_type", ""))


def trained_tokens(folder: Path) -> int | None:
    """What a folder of ours says that its weights have been trained on; None if it does not."""
    found = (_config(folder) or {}).get("trained_tokens")
    return found if isinstance(found, int) else None


def _config(folder: Path) -> dict[str, Any] | None:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG} is no JSON ({error}); copy it again") from None
    return config if isinstance(config, dict) else {}
