"""English prose that every Python installation carries: the language reference and the standard library's docstrings.

A document is one section of a topic, or one docstring, reduced to its prose paragraphs. Nothing is imported but
`pydoc_data`, a module of one dictionary; the rest of the library is parsed. Thresholds are our choice, set by reading
what they keep and drop.
"""

import ast
import hashlib
import re
import sysconfig
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from triptych.data_pipelines.corpus.splits import Split

_SKIPPED_FOLDERS = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3", "__pycache__"})
_ASCII = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": "-", "\u2026": "..."}
)
_UNDERLINE = re.compile(r"([=\-*~^#\"'`+])\1{2,}")
_HEADING = re.compile(r"\n(?=[^\n]+\n([=*\-~^])\1{3,}\n)")
_ITEM = re.compile(r"^\s*([*\-+o]|\(?\w{1,2}[.)])\s+")
_DOCTEST = re.compile(r"\s*(>>>|\.\.\. |\.\. |\$ |% |[:@]\w+.*:|\|)")
_ROLE = re.compile(r":[\w:+.-]+:`~?!?([^`<]*?)(?:\s*<[^`]*>)?`")
_QUOTED = re.compile(r"``(.+?)``|`([^`']+?)['`]_*")
_EMPHASIS = re.compile(r"(?<![\w*])\*{1,2}(\w[^*\n]*?)\*{1,2}(?![\w*])")
_PLAIN_WORD = re.compile(r"[A-Za-z][a-z]*(?:['-][a-z]+)?[.,;:!?)\"']*")
_FREQUENT_WORDS = "the a an of to is in and for that be if it are this with or as not on by from which when"
_FREQUENT = frozenset(_FREQUENT_WORDS.split())


@dataclass(kw_only=True, slots=True, frozen=True)
class TextConfig:
    """What is kept. Lengths in characters."""

    min_characters: int = 60
    max_characters: int = 4000
    validation_fraction: float = 0.05


class Document(NamedTuple):
    """Prose, and where it was found: "topic:assignment" or "argparse.py"."""

    text: str
    origin: str


def documents(config: TextConfig) -> Iterator[Document]:
    """Clean documents in a fixed order, no paragraph of which was seen in another."""
    seen: set[bytes] = set()
    for raw, origin in _raw_documents():
        paragraphs = []
        for paragraph in prose_paragraphs(raw):
            digest = fingerprint(paragraph)
            if digest not in seen:
                seen.add(digest)
                paragraphs.append(paragraph)
        text = _cut("\n\n".join(paragraphs), config.max_characters)
        if len(text) >= config.min_characters:
            yield Document(text, origin)


def split_of(text: str, config: TextConfig) -> Split:
    """By a hash of the document, so that a document's split does not depend on the others."""
    share = int.from_bytes(fingerprint(text)[:8], "big") / 2**64
    return "validation" if share < config.validation_fraction else "train"


def fingerprint(text: str) -> bytes:
    """Hash of the words alone: case, spacing and punctuation do not make a new paragraph. 16 bytes."""
    return hashlib.blake2b(" ".join(re.findall(r"\w+", text.lower())).encode(), digest_size=16).digest()


def prose_paragraphs(raw: str) -> list[str]:
    """The paragraphs of a docstring or topic that read as English, each on one line, without markup."""
    blocks = re.split(r"\n\s*\n", textwrap.dedent(raw.translate(_ASCII)))
    paragraphs = (_clean(part) for block in blocks for part in _items(block))
    return [paragraph for paragraph in paragraphs if _is_prose(paragraph)]


def _raw_documents() -> Iterator[tuple[str, str]]:
    yield from _topics()
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.rglob("*.py")):
        name = path.relative_to(library)
        if not _SKIPPED_FOLDERS.intersection(name.parts):
            for docstring in _docstrings(path):
                yield docstring, name.as_posix()


def _topics() -> Iterator[tuple[str, str]]:
    from pydoc_data.topics import topics  # half a megabyte, wanted only here

    for name in sorted(topics):
        for section in _HEADING.split(topics[name]):
            if len(section) > 1:  # not the character that the pattern captured
                yield section, f"topic:{name}"


def _docstrings(path: Path) -> Iterable[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # templates and deliberately broken files
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                yield docstring


def _items(block: str) -> Iterator[list[str]]:
    """Lines of a block, cut where a list item begins or the indentation changes after a full line."""
    lines: list[str] = []
    for line in block.splitlines():
        if _DOCTEST.match(line) or _UNDERLINE.search(line):
            return  # the rest of the block is output, code or a table, and what is before it is its heading
        if _ITEM.match(line) and lines:
            yield lines
            lines = []
        lines.append(line)
    yield lines


def _clean(lines: list[str]) -> str:
    text = " ".join(line.strip() for line in lines)
    text = _ITEM.sub("", text, count=1)
    text = _ROLE.sub(r"\1", text)
    text = _QUOTED.sub(lambda match: match[1] or match[2], text)
    text = _EMPHASIS.sub(r"\1", text)
    return re.sub(r"\s+", " ", text.replace("\\", "")).strip()


def _is_prose(text: str) -> bool:
    """A sentence: begins and ends like one, mostly plain words, some of the frequent ones."""
    words = text.split()
    if len(words) < 6 or not text.isascii() or not text[0].isupper() or text[-1] not in ".!?)":
        return False
    plain = sum(_PLAIN_WORD.fullmatch(word) is not None for word in words)
    frequent = sum(word.lower() in _FREQUENT for word in words)
    return plain >= 0.8 * len(words) and frequent >= 0.12 * len(words)


def _cut(text: str, max_characters: int) -> str:
    if len(text) <= max_characters:
        return text
    return text[: text.rfind(". ", 0, max_characters) + 1]
