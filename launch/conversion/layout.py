"""Where things lie in a Hugging Face folder of ours.

config.json   generation_config.json   run.yaml   README.md   *_triptych.py
model.safetensors, or model-00001-of-0000N.safetensors and model.safetensors.index.json
tokenizer.json   tokenizer_config.json   tokenizers/{text,image,audio}/
"""

import json
from pathlib import Path

CONFIG = "config.json"
GENERATION = "generation_config.json"
RUN = "run.yaml"
TOKENIZERS = "tokenizers"
MODEL = "model.safetensors"
INDEX = "model.safetensors.index.json"


def folder_kind(folder: Path) -> str | None:
    """The `model_type` of a Hugging Face folder; "" if its config names none; None if there is no config."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG} is no JSON ({error}); copy it again") from None
    return str(config.get("model_type", "")) if isinstance(config, dict) else ""
