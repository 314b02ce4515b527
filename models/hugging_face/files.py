"""The files of this folder that travel, as they are written beside the weights."""

from pathlib import Path

_HERE = Path(__file__).resolve().parent
_OURS, _THEIRS = "from triptych.models.hugging_face.", "from ."

AUTO_MAP = {
    "AutoConfig": "configuration_triptych.TriptychConfiguration",
    "AutoModel": "modeling_triptych.TriptychModel",
}
"""What `config.json` says of them."""


def remote_code() -> dict[str, str]:
    """File name to text. Imports of each other are made relative, as transformers wants them."""
    return {
        path.name: path.read_text(encoding="utf-8").replace(_OURS, _THEIRS)
        for path in sorted(_HERE.glob("*_triptych.py"))
    }
