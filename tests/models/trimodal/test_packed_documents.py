"""Rows of several documents: each is to the model what it is alone in a row."""

import dataclasses
import functools
import math

import pytest
import torch
from plain_transformer import plain_logits

from triptych.data_pipelines.vocabulary import MODALITIES, Vocabulary
from triptych.models.attention.config import AttentionConfig
from triptych.models.attention.documents import DocumentRows, PackedDocuments
from triptych.models.attention.sigmoid import SigmoidCoreAttention
from triptych.models.diffusion.inputs import DiffusionInputs
from triptych.models.trimodal.config import InitConfig, TrimodalConfig
from triptych.models.trimodal.execution import Execution
from triptych.models.trimodal.model import TrimodalTransformer
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement

BASE = TrimodalConfig(
    vocabulary=Vocabulary(text=50, image=20, audio=30),
    sequence_length=12,  # of a document; rows have twice as many positions
    hidden_size=32,
    num_layers=2,
    num_attention_heads=4,
    num_query_groups=2,
    ffn_hidden_size=56,
    init=InitConfig(embedding_std=0.5, readout_std=0.2),
)
VARIANTS = {
    "softmax": BASE,
    "learned positions": dataclasses.replace(BASE, positions="rotary_and_learned"),
    "sigmoid": dataclasses.replace(BASE, attention=AttentionConfig(function="sigmoid")),
    "sigmoid, learned positions and bias": dataclasses.replace(
        BASE,
        positions="rotary_and_learned",
        attention=AttentionConfig(function="sigmoid", learned_bias="per_head"),
    ),
}
S = 24
LENGTHS = ((5, 11, 3), (12, 12), (1, 9, 2, 4), (7,))  # with padding behind three of the four
PAD = BASE.vocabulary.special("pad")
FIRST = BASE.vocabulary.start("text")  # behind all specials


@pytest.fixture(scope="module")
def groups():
    with process_groups(Placement()) as opened:
        yield opened


def build(name, groups, recompute="none"):
    model = TrimodalTransformer(VARIANTS[name], groups.collection, Execution(recompute=recompute))
    model.initialise(seed=7)
    with torch.no_grad():  # what begins at zero would hide where it is left out
        for parameter_name, parameter in model.named_parameters():
            if parameter_name == "positions" or parameter.dim() == 1:
                parameter.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(len(parameter_name)))
    return model


def documents():
    """Tokens of each document, by row."""
    draw = torch.Generator().manual_seed(3)
    return [[torch.randint(FIRST, BASE.vocabulary.size, (n,), generator=draw) for n in row] for row in LENGTHS]


def inputs_of(rows, pad=PAD):
    """Documents in rows; every position's logits are asked for."""
    tokens_BS = torch.full((len(rows), S), pad)
    lengths_BD = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
    for b, row in enumerate(rows):
        joined = torch.cat(row)
        tokens_BS[b, : len(joined)] = joined
        lengths_BD[b, : len(row)] = torch.tensor([len(document) for document in row])
    return DiffusionInputs(
        tokens_BS=tokens_BS,
        rows=dict.fromkeys(MODALITIES, torch.arange(len(rows) * S)),
        padding_BS=None,
        documents=PackedDocuments(lengths_BD=lengths_BD, longest=12),
    )


def of_documents(logits, rows):
    """[positions of all documents, ids of all modalities]."""
    whole_BSV = torch.cat([logits[modality].view(len(rows), S, -1) for modality in MODALITIES], -1)
    return torch.cat([whole_BSV[b, : sum(map(len, row))] for b, row in enumerate(rows)])


def alone(state, config, rows):
    """The same by the plain model, which is given one document at a time."""
    found = [plain_logits(state, config, document[None], None) for row in rows for document in row]
    return torch.cat([torch.cat([each[modality][0] for modality in MODALITIES], -1) for each in found])


def relative(error, reference):
    return ((error - reference).abs().max() / reference.abs().max().clamp(min=1e-12)).item()


def error_of_logits(name, groups):
    model, rows = build(name, groups), documents()
    state = {name: p.detach().double() for name, p in model.named_parameters()}
    logits = of_documents(model(inputs_of(rows)), rows)
    return relative(logits.double(), alone(state, VARIANTS[name], rows))


@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
@pytest.mark.parametrize("name", VARIANTS)
def test_logits_and_gradients_are_those_of_each_document_alone(name, recompute, groups):
    """Learned positions begin anew with each document; rotary ones are relative, so that where one stands is lost."""
    model, rows = build(name, groups, recompute), documents()
    state = {name: p.detach().double().requires_grad_() for name, p in model.named_parameters()}
    ours = of_documents(model(inputs_of(rows)), rows)
    wanted = alone(state, VARIANTS[name], rows)
    assert relative(ours.double(), wanted) < 1e-5
    (ours.sin() * ours).sum().backward()
    (wanted.sin() * wanted).sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert relative(parameter.grad.double(), state[parameter_name].grad) < 1e-5, parameter_name


@pytest.mark.parametrize("name", VARIANTS)
def test_a_token_changes_no_logit_of_another_document(name, groups):
    model, rows = build(name, groups), documents()
    before = of_documents(model(inputs_of(rows)), rows)
    start = 0
    for b, row in enumerate(rows):
        for d, document in enumerate(row):
            changed = [list(other) for other in rows]
            changed[b][d] = torch.where(document == FIRST, FIRST + 1, FIRST)
            after = of_documents(model(inputs_of(changed)), rows)
            same = (after == before).all(-1)
            stop = start + len(document)
            assert same[:start].all() and same[stop:].all() and not same[start:stop].any()
            start = stop


@pytest.mark.parametrize("name", VARIANTS)
def test_rows_of_one_document_may_be_longer_than_any_document(name, groups):
    """Of which padding tells, without a word of documents."""
    model, rows = build(name, groups), [[document] for row in documents() for document in row]
    state = {parameter_name: p.detach().double() for parameter_name, p in model.named_parameters()}
    lengths_B1 = torch.tensor([[len(row[0])] for row in rows])
    inputs = dataclasses.replace(inputs_of(rows), documents=None, padding_BS=torch.arange(S) >= lengths_B1)
    ours = of_documents(model(inputs), rows)
    assert relative(ours.double(), alone(state, VARIANTS[name], rows)) < 1e-5


@pytest.mark.parametrize("name", VARIANTS)
def test_padding_may_hold_anything(name, groups):
    model, rows = build(name, groups), documents()
    before = of_documents(model(inputs_of(rows)), rows)
    with torch.no_grad():
        model.embedding.weight[PAD] = torch.nan
    assert torch.equal(of_documents(model(inputs_of(rows)), rows), before)


SEGMENTS = DocumentRows.segments.func


def rows_as_one(rows):
    """A mask without documents."""
    return SEGMENTS(PackedDocuments(lengths_BD=rows._lengths_BD.sum(1, keepdim=True), longest=S).laid_out(S))


def rows_turned(rows):
    """Segments of the row before."""
    return SEGMENTS(PackedDocuments(lengths_BD=rows._lengths_BD.roll(1, 0), longest=12).laid_out(S))


PLANTED = {
    "a mask without documents": ("softmax", DocumentRows, "segments", property(rows_as_one)),
    "sigmoid without documents": ("sigmoid", DocumentRows, "segments", property(rows_as_one)),
    "segments of a wrong row": ("softmax", DocumentRows, "segments", property(rows_turned)),
    "positions not restarted": (
        "learned positions",
        DocumentRows,
        "positions",
        property(lambda rows: torch.arange(S).clamp(max=11).expand(len(rows._lengths_BD), S)),
    ),
    "-log n of the longest document": ("sigmoid", SigmoidCoreAttention, "_biased", lambda self, minus_log_n: -1.0),
}


@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_is_seen(mistake, groups, monkeypatch):
    name, owner, attribute, planted = PLANTED[mistake]
    assert error_of_logits(name, groups) < 1e-5
    monkeypatch.setattr(owner, attribute, planted)
    assert error_of_logits(name, groups) > 1e-3


def test_minus_log_n_is_of_the_documents_limit_and_not_of_the_row(groups):
    """By the model's own number, so that one batch's documents or another length of rows make it no other function."""
    model, rows = build("sigmoid", groups), documents()
    assert {layer.self_attention.core_attention.bias for layer in model.layers.values()} == {-math.log(12)}
    first = inputs_of(rows)
    second = dataclasses.replace(first, documents=dataclasses.replace(first.documents, longest=S))
    assert torch.equal(model(first)["text"], model(second)["text"])


def test_what_layers_share_is_laid_out_once(groups, monkeypatch):
    """Also where a layer runs again for its gradient."""
    made = []
    counted = functools.cached_property(lambda rows: made.append(rows) or SEGMENTS(rows))
    counted.__set_name__(DocumentRows, "segments")
    monkeypatch.setattr(DocumentRows, "segments", counted)
    model, rows = build("softmax", groups, "full"), documents()
    of_documents(model(inputs_of(rows)), rows).sum().backward()
    assert len(made) == 1
