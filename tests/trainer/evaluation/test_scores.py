import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.trainer.evaluation.proportions import Proportion
from triptych.trainer.evaluation.scores import ACCURACIES, Scores

finite = st.floats(allow_nan=False, allow_infinity=False)
proportions = st.builds(
    lambda right, wrong: Proportion(successes=right, trials=right + wrong), st.integers(0, 999), st.integers(1, 999)
)
all_scores = st.builds(
    Scores,
    **{name: st.none() | proportions for name in ACCURACIES},
    i2t_character_error=st.none() | finite,
    text_nelbo_bits_per_byte=st.none() | finite,
    nelbo_nats_per_token=st.dictionaries(st.sampled_from(["text", "image", "audio"]), finite),
    seconds=st.none() | finite,
    num_parameters=st.none() | st.integers(0, 10**13),
    commit=st.none() | st.text(),
)


@given(scores=all_scores)
def test_json_and_back_is_the_same(scores):
    assert Scores.from_json(json.loads(scores.dumps())) == scores


@given(bad=st.sampled_from([math.nan, math.inf, -math.inf]))
def test_what_is_not_finite_becomes_null(bad):
    scores = Scores(seconds=bad, nelbo_nats_per_token={"text": bad, "image": 1.0, "audio": 1e6})
    values = json.loads(scores.dumps())
    assert values["seconds"] is None
    assert values["nelbo_nats_per_token"] == {"text": None, "image": 1.0, "audio": 1e6}
    assert values["perplexity_bound"]["audio"] is None


def test_an_accuracy_is_a_number_with_its_trials_beside():
    values = Scores(t2i_accuracy=Proportion(successes=9, trials=10)).to_json()
    assert values["t2i_accuracy"] == 0.9
    assert values["confidence"]["t2i_accuracy"]["trials"] == 10


def test_every_key_is_there_even_if_unmeasured():
    promised = "t2i_accuracy t2s_accuracy i2t_accuracy s2t_accuracy text_nelbo_bits_per_byte text_unigram_bits_per_byte"
    promised += " text_gzip_bits_per_byte tokens_per_second seconds num_parameters commit"
    assert set(promised.split()) <= set(Scores().to_json())


def test_a_foreign_key_is_refused():
    with pytest.raises(ValueError, match="unknown score 'bleu'"):
        Scores.from_json({"bleu": 1.0})


def test_an_accuracy_without_counts_is_refused():
    with pytest.raises(ValueError, match="give its successes and trials"):
        Scores.from_json({"t2i_accuracy": 0.5})
