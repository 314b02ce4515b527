"""Prose is kept, code and markup are not, and nothing comes twice."""

import itertools

import pytest

from triptych.data_pipelines.corpus.text import Document, TextConfig, documents, fingerprint, prose_paragraphs, split_of

SENTENCE = "The value of the option is read from the file when it is needed."


@pytest.fixture(scope="module")
def found():
    return list(documents(TextConfig()))


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("The value of the option\n    is read from the file when\n  it is needed.", SENTENCE),
        ("The ``value`` of the *option* is read from\nthe :class:`file` when it is needed.", SENTENCE),
        ("* The value of the option is read from the file when it is needed.", SENTENCE),
        ("The value of the \u201coption\u201d is in the file.", 'The value of the "option" is in the file.'),
    ],
)
def test_markup_and_line_ends_go(raw, clean):
    assert prose_paragraphs(raw) == [clean]


@pytest.mark.parametrize(
    "raw",
    [
        ">>> print('The value of the option is in the file.')\nThe value of the option is in the file.",
        "Heading\n=======",
        "==== =====\nName The value of it is in the table.\n==== =====",
        "value: int = the_option.read(from_file)[0] or {'a': 1}.",
        ":param value: The value of the option that is read from the file.",
        "Der Wert der Einstellung wird aus der Datei gelesen.",
        "La valeur de l'option est lue du fichier \u00e0 la fin.",
        "Too short.",
        "the value of the option is read from the file when it is needed.",
    ],
)
def test_what_is_no_english_prose_is_dropped(raw):
    assert prose_paragraphs(raw) == []


def test_code_after_prose_goes_and_prose_stays():
    assert prose_paragraphs(f"{SENTENCE}\n\n>>> f(1)\n2\n\n{SENTENCE}") == [SENTENCE, SENTENCE]


def test_about_a_megabyte_is_found(found):
    assert 500_000 < sum(len(document.text) for document in found) < 4_000_000


def test_documents_keep_the_bounds(found):
    config = TextConfig()
    lengths = [len(document.text) for document in found]
    assert config.min_characters <= min(lengths)
    assert max(lengths) <= config.max_characters


def test_documents_are_printable_ascii(found):
    assert {char for document in found for char in document.text if not " " <= char <= "~"} == {"\n"}


def test_no_paragraph_comes_twice(found):
    marks = [fingerprint(paragraph) for document in found for paragraph in document.text.split("\n\n")]
    assert len(marks) == len(set(marks))


def test_order_is_the_same_every_time(found):
    assert list(itertools.islice(documents(TextConfig()), 300)) == found[:300]


def test_splits_share_no_paragraph(found):
    config, paragraphs = TextConfig(), {"train": set(), "validation": set()}
    for document in found:
        paragraphs[split_of(document.text, config)].update(document.text.split("\n\n"))
    assert paragraphs["train"].isdisjoint(paragraphs["validation"])


def test_validation_has_its_share(found):
    config = TextConfig(validation_fraction=0.2)
    share = sum(split_of(document.text, config) == "validation" for document in found) / len(found)
    assert 0.17 < share < 0.23


def test_split_is_the_documents_own():
    document = Document(SENTENCE, "here")
    assert split_of(document.text, TextConfig()) == split_of(document.text.upper(), TextConfig())
