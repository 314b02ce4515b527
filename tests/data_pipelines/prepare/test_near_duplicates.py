"""Planted duplicates are found, texts that are not alike are kept, and signatures estimate what they should."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prepare_inputs import documents

from triptych.data_pipelines.prepare.duplicates.clusters import first_of_each, first_of_each_cluster
from triptych.data_pipelines.prepare.duplicates.signatures import DeduplicationConfig, MinHasher, digest
from triptych.data_pipelines.prepare.duplicates.words import WordReader
from triptych.data_pipelines.prepare.inputs.entries import Pair

CONFIG = DeduplicationConfig()
READER = WordReader()


def signatures(texts, config=CONFIG):
    hasher = MinHasher(config)
    return hasher, np.array([hasher.signature(READER.words(text), digest(text)) for text in texts])


def kept(texts, config=CONFIG):
    hasher, table = signatures(texts, config)
    first = first_of_each_cluster(len(texts), hasher.bands(table), lambda rows: table[rows], config.near_duplicates)
    return np.flatnonzero(first).tolist()


def with_changes(text, number, seed):
    """Some words replaced, far apart: each takes five runs of five words away and brings five others."""
    words = text.split()
    for i in range(number):
        words[(i * len(words)) // number + 7] = f"other{seed}x{i}"
    return " ".join(words)


def test_no_text_is_left_out_where_none_are_alike():
    texts = documents(300, num_words=60)
    assert kept(texts) == list(range(300))


def test_planted_near_duplicates_are_found_and_the_first_stays():
    texts = documents(60, num_words=400)
    planted = [with_changes(texts[i], 3, i) for i in range(20)]  # similarity (396 - 15) / (396 + 15) = 0.93
    assert kept([*texts, *planted]) == list(range(60))


def test_texts_below_the_threshold_stay():
    texts = documents(60, num_words=400)
    planted = [with_changes(texts[i], 20, i) for i in range(20)]  # 0.60
    assert kept([*texts, *planted]) == list(range(80))


def test_a_chain_is_one_cluster():
    first = documents(1, num_words=400)[0]
    chain = [first]
    for i in range(4):
        words = chain[-1].split()
        for place in range(3):
            words[100 * i + 30 * place] = f"new{i}x{place}"
        chain.append(" ".join(words))
    assert kept(chain) == [0]


@pytest.mark.parametrize(("changes", "similarity"), [(0, 1.0), (10, 346 / 446), (30, 246 / 546)])
def test_the_estimate_is_of_the_jaccard_similarity(changes, similarity):
    config = DeduplicationConfig(num_permutations=1024)
    text = documents(1, num_words=400)[0]
    _, (one, other) = signatures([text, with_changes(text, changes, 0)], config)
    assert (one == other).mean() == pytest.approx(similarity, abs=4 * (0.25 / 1024) ** 0.5)


def test_case_punctuation_and_space_are_no_difference_for_near_ones():
    text = documents(1)[0]
    assert kept([text, text.upper().replace(" ", ",\n")]) == [0]


def test_texts_without_words_are_kept():
    assert kept(["?! ...", "... !?", "((("]) == [0, 1, 2]


def test_exactly_the_same_is_the_same_but_for_space_and_composition():
    assert digest("a  caf\u00e9\n") == digest("a cafe\u0301")
    assert (
        len({digest("A b"), digest("a b"), digest("ab"), digest(Pair(b"", "ab", None)), digest(Pair(b"a", "b", None))})
        == 4
    )


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=30))
def test_first_of_each_is_the_first(rows):
    table = np.array(rows, np.uint64).reshape(-1, 2)
    assert first_of_each(table).tolist() == [row not in rows[:i] for i, row in enumerate(rows)]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=25))
def test_clusters_are_what_shared_bands_connect(rows):
    """Against a union by hand, where all candidates count as alike."""
    clusters = list(range(len(rows)))
    for _ in rows:
        for i, row in enumerate(rows):
            for j in range(i):
                if row[0] == rows[j][0] or row[1] == rows[j][1]:
                    clusters[i] = clusters[j] = min(clusters[i], clusters[j])
    bands = np.array(rows, np.uint64).reshape(-1, 2).T
    first = first_of_each_cluster(len(rows), bands, lambda some: np.zeros((len(some), 1), np.uint32), 1.0)
    assert first.tolist() == [cluster == i for i, cluster in enumerate(clusters)]


@pytest.mark.parametrize("settings", [{"near_duplicates": 0.1}, {"near_duplicates": 1.0}, {"shingle_words": 0}])
def test_settings_that_make_no_sense(settings):
    with pytest.raises(ValueError, match="; give"):
        DeduplicationConfig(**settings)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasketch", None)
    with pytest.raises(ValueError, match=r"need datasketch, which is missing; pip install 'triptych\[prepare\]'"):
        MinHasher(CONFIG)
