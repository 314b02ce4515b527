"""What a text tokenizer does not give back as it was."""

from collections.abc import Sequence

from triptych.data_pipelines.tokenizers.protocol import Tokenizer

AWKWARD_TEXTS = (
    "plain words",
    " a space before",
    "a space after ",
    "two  spaces",
    "a\nnew line\r\n\tand a tab",
    "Capital Letters",
    "caf\u00e9 or cafe\u0301",
    "\ufb01gure \u00bd \uff21",
    "\u65e5\u672c\u8a9e \U0001f642",
    "<s> [MASK] <|endoftext|>",
    "don't 3.14",
)


def changed(tokenizer: Tokenizer, texts: Sequence[str] = AWKWARD_TEXTS) -> list[str]:
    """Those of the texts that come back from their codes as another string: none for a byte-level tokenizer."""
    return [text for text, back in zip(texts, tokenizer.decode(tokenizer.encode(texts)), strict=True) if text != back]
