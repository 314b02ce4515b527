"""Text to codes by `tiktoken`: a file of ranked byte strings, the pattern that cuts text first, and special tokens."""

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from triptych.data_pipelines.vocabulary import Modality

if TYPE_CHECKING:
    import tiktoken

CONFIG_FILE = "config.json"
RANKS_FILE = "ranks.tiktoken"
_MAX_ID = (1 << 24) - 1  # far above any vocabulary: a table of ids is kept, which one absurd id must not blow up
_NOT_INSTALLED = "tiktoken is not installed; pip install 'triptych[tokenizers]'"
_FORMAT = 1  # raise it when the code around the ranks changes what codes come out


@dataclass(kw_only=True, slots=True, frozen=True)
class TiktokenConfig:
    """pattern: regular expression of the pieces that are encoded one by one. special_tokens: name to id; no text is
    ever encoded as one of them.
    """

    kind: Literal["tiktoken"] = "tiktoken"
    pattern: str
    special_tokens: dict[str, int] = field(default_factory=dict)


class TiktokenTokenizer:
    """Byte-level BPE by `tiktoken`. Any string comes back exactly. Implements `Tokenizer`."""

    modality: Modality = "text"

    def __init__(self, config: TiktokenConfig, ranks: Mapping[bytes, int]) -> None:
        """ValueError if a byte has no rank, two have the same, or the pattern is none."""
        self.config = config
        self._ranks = dict(ranks)
        self._encoding = _encoding(config, self._ranks)
        known = {*self._ranks.values(), *config.special_tokens.values()}
        self.vocab_size = 1 + max(known)
        self._known_V = np.zeros(self.vocab_size, bool)
        self._known_V[list(known)] = True
        head = json.dumps({"format": _FORMAT, "config": asdict(config)}, sort_keys=True).encode()
        self.fingerprint = hashlib.sha256(head + _rank_lines(self._ranks)).hexdigest()

    def encode(self, raw: Sequence[str]) -> list[NDArray[np.int64]]:
        """int64 [n] for each string; what looks like a special token is spelt out."""
        return [np.array(ids, dtype=np.int64) for ids in self._encoding.encode_ordinary_batch(list(raw))]

    def decode(self, codes: Sequence[NDArray[np.int64]]) -> list[str]:
        """The string of each code sequence. Bytes that are no whole character become U+FFFD, ids that stand for nothing
        (an encoding may leave some unused) are left out."""
        known = [item[(item >= 0) & (item < self.vocab_size)] for item in codes]
        whole = [self._encoding.decode_bytes(item[self._known_V[item]].tolist()) for item in known]
        return [data.decode("utf-8", errors="replace") for data in whole]

    def save(self, folder: Path) -> None:
        """Write `ranks.tiktoken` and `config.json` into a folder (created)."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RANKS_FILE).write_bytes(_rank_lines(self._ranks))
        head = {"format": _FORMAT, "fingerprint": self.fingerprint, "config": asdict(self.config)}
        (folder / CONFIG_FILE).write_text(json.dumps(head, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote. ValueError, naming the file, if it is missing or damaged."""
        path = folder / CONFIG_FILE
        head = _read_json(path)
        config = _config(path, head.get("config"))
        tokenizer = cls(config, read_ranks(folder / RANKS_FILE))
        if head.get("format") != _FORMAT or head.get("fingerprint") != tokenizer.fingerprint:
            raise ValueError(f"{folder / RANKS_FILE} is not what {path} describes; adopt the tokenizer again")
        return tokenizer

    @classmethod
    def from_rank_file(cls, ranks_path: Path) -> Self:
        """From anyone's `NAME.tiktoken` and, beside it, `NAME.json`: {"pattern": ..., "special_tokens": {...}}."""
        described_in = ranks_path.with_suffix(".json")
        content = _read_json(described_in)
        unknown = sorted(set(content) - {"pattern", "special_tokens"})
        if unknown:
            raise ValueError(f"{described_in} has {unknown[0]!r}; give only pattern and special_tokens")
        return cls(_config(described_in, content), read_ranks(ranks_path))

    @classmethod
    def from_installed(cls, name: str) -> Self:
        """An encoding that `tiktoken` knows by name, from its cache on this machine; nothing is ever fetched."""
        constructors = _constructors()
        if name not in constructors:
            raise ValueError(f"tiktoken knows no encoding {name}; use one of {', '.join(sorted(constructors))}")
        with _nothing_fetched(name):
            parts = constructors[name]()
        config = TiktokenConfig(pattern=parts["pat_str"], special_tokens=dict(parts["special_tokens"]))
        return cls(config, parts["mergeable_ranks"])


def installed_encodings() -> list[str]:
    """Names that `TiktokenTokenizer.from_installed` takes."""
    return sorted(_constructors())


def read_ranks(path: Path) -> dict[bytes, int]:
    """Byte strings and their ranks, from lines of base64 and number. ValueError, naming the file and the line."""
    try:
        lines = path.read_bytes().splitlines()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(f"{path} is missing; adopt the tokenizer again, or give its folder") from error
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error) as error:
            raise ValueError(f"{path} is damaged: line {number} is no base64 and rank; copy it again") from error
    return ranks


def _constructors() -> dict[str, Callable[[], dict[str, Any]]]:
    try:
        from tiktoken_ext import openai_public
    except ImportError as error:
        raise ValueError(_NOT_INSTALLED) from error
    return openai_public.ENCODING_CONSTRUCTORS


def _encoding(config: TiktokenConfig, ranks: dict[bytes, int]) -> "tiktoken.Encoding":
    try:
        import tiktoken
    except ImportError as error:
        raise ValueError(_NOT_INSTALLED) from error
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing:
        raise ValueError(f"the ranks have no byte {missing[0]}: some text would have no codes; give all 256 bytes")
    ids = [*ranks.values(), *config.special_tokens.values()]
    if len(set(ids)) != len(ids) or min(ids) < 0 or max(ids) > _MAX_ID:
        raise ValueError(f"two tokens share an id, or one is not in 0..{_MAX_ID}; give each rank and token its own")
    try:
        return tiktoken.Encoding(
            "triptych", pat_str=config.pattern, mergeable_ranks=ranks, special_tokens=config.special_tokens
        )
    except ValueError as error:
        line = " ".join(str(error).split())
        raise ValueError(f"tiktoken refuses the pattern ({line}); correct it") from error


def _rank_lines(ranks: Mapping[bytes, int]) -> bytes:
    """The file's bytes, in order of rank."""
    ordered = sorted(ranks.items(), key=lambda item: item[1])
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in ordered)


def _read_json(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(f"{path} is missing; write one with pattern and special_tokens") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON; adopt the tokenizer again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a JSON object; adopt the tokenizer again")
    return content


def _config(path: Path, fields: object) -> TiktokenConfig:
    try:
        return TypeAdapter(TiktokenConfig).validate_json(json.dumps(fields), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "config"
        raise ValueError(f"{path} does not fit: {where}: {first['msg']}; correct it") from error


@contextmanager
def _nothing_fetched(name: str) -> Iterator[None]:
    """tiktoken reads its cache first and fetches what is not there; here that is an error. It offers no such setting,
    so the one function by which it fetches stands aside meanwhile."""
    import tiktoken.load

    def refuse(blobpath: str) -> NoReturn:
        raise ValueError(
            f"the encoding {name} is not in tiktoken's cache on this machine ({blobpath}); fill the cache that "
            f"TIKTOKEN_CACHE_DIR names, or give a folder with a .tiktoken file"
        )

    fetch, tiktoken.load.read_file = tiktoken.load.read_file, refuse
    try:
        yield
    finally:
        tiktoken.load.read_file = fetch
