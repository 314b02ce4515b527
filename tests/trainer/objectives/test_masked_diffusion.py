"""The objective's shapes, capacities, weights and metrics."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from document_rows import one_each

from triptych.data_pipelines.batch import Role
from triptych.data_pipelines.vocabulary import MODALITIES, Vocabulary
from triptych.kernels.philox import Stream
from triptych.models.diffusion.corruption import ConditionTreatment
from triptych.models.diffusion.schedules import Cosine, ModalitySchedules
from triptych.trainer.objectives.masked_diffusion import (
    NO_LABEL,
    MaskedDiffusion,
    MaskedDiffusionConfig,
    ModalityWeights,
)

VOCABULARY = Vocabulary(text=6, image=5, audio=4)
B, S = 8, 12
STREAM = Stream(seed=9)


def make_batch(modalities=MODALITIES, num_rows=B):
    """Each row: a given token, ten targets of one modality, one padding."""
    generator = torch.Generator().manual_seed(4)
    rows = []
    for b in range(num_rows):
        modality = modalities[b % len(modalities)]
        codes = torch.randint(0, VOCABULARY.num_outputs(modality), (S - 2,), generator=generator)
        specials = [VOCABULARY.special("task_text"), VOCABULARY.special("pad")]
        rows.append([specials[0], *(codes + VOCABULARY.start(modality)).tolist(), specials[1]])
    numbers_B = torch.arange(num_rows)
    return one_each(
        torch.tensor(rows),
        torch.tensor([Role.GIVEN, *[Role.TARGET] * (S - 2), Role.PADDING], dtype=torch.uint8).repeat(num_rows, 1),
        torch.stack([numbers_B * 0, numbers_B, numbers_B * 0], 1),
    )


def build(**settings):
    return MaskedDiffusion(MaskedDiffusionConfig(**settings), VOCABULARY)


def logits_of(inputs):
    """Logits that depend on the corrupted row and the position alone, as a model's do."""
    outputs = {}
    for modality, rows_R in inputs.rows.items():
        columns = torch.arange(VOCABULARY.num_outputs(modality))
        sums_R = inputs.tokens_BS[rows_R // S].sum(1)
        outputs[modality] = torch.sin(0.7 * sums_R[:, None] + 1.3 * (rows_R % S)[:, None] + columns).requires_grad_()
    return outputs


def test_rows_are_the_masked_positions_of_each_modality():
    batch = make_batch()
    inputs, targets = build().prepare(batch, STREAM)
    seen = []
    for modality, rows_R in inputs.rows.items():
        real_R = targets.labels[modality] != NO_LABEL
        assert (inputs.tokens_BS.flatten()[rows_R[real_R]] == VOCABULARY.mask).all()
        clean_R = batch.tokens_BS.flatten()[rows_R[real_R]]
        assert torch.equal(clean_R, targets.labels[modality][real_R] + VOCABULARY.start(modality))
        seen += rows_R[real_R].tolist()
    assert sorted(seen) == (inputs.tokens_BS.flatten() == VOCABULARY.mask).nonzero()[:, 0].tolist()


@pytest.mark.parametrize("capacity", [0.01, 0.125, 1.0])
def test_capacity_is_a_whole_number_of_quanta_and_drops_nothing(capacity):
    quantum = math.ceil(capacity * B * S)
    inputs, targets = build(head_capacity=capacity).prepare(make_batch(), STREAM)
    for modality, rows_R in inputs.rows.items():
        num_real = int((targets.labels[modality] != NO_LABEL).sum())
        assert len(rows_R) == quantum * max(1, math.ceil(num_real / quantum))
        assert not rows_R[num_real:].any()
        assert not targets.row_weights[modality][num_real:].any()


def test_loss_does_not_depend_on_the_capacity():
    sums = []
    for capacity in (0.01, 1.0):
        objective = build(head_capacity=capacity)
        inputs, targets = objective.prepare(make_batch(), STREAM)
        sums.append(objective.loss(logits_of(inputs), targets).sum)
    torch.testing.assert_close(sums[0], sums[1])


@pytest.mark.parametrize("cuts", [(0, 8), (0, 3, 8), tuple(range(9))])
def test_sums_weights_and_metrics_add_up_over_any_split(cuts):
    """Micro-batches that lack a modality altogether are among them."""
    objective, batch = build(schedules=ModalitySchedules(image=Cosine())), make_batch()
    inputs, targets = objective.prepare(batch, STREAM)
    whole = objective.loss(logits_of(inputs), targets)
    parts = []
    for start, stop in itertools.pairwise(cuts):
        inputs, targets = objective.prepare(batch.rows(start, stop), STREAM)
        parts.append(objective.loss(logits_of(inputs), targets))
    torch.testing.assert_close(sum(part.sum for part in parts), whole.sum)
    torch.testing.assert_close(sum(part.weight for part in parts), whole.weight)
    for name, (total, weight) in whole.metrics.items():
        torch.testing.assert_close(sum(part.metrics[name][0] for part in parts), total, msg=name)
        torch.testing.assert_close(sum(part.metrics[name][1] for part in parts), weight, msg=name)


def test_a_batch_with_nothing_to_mask_gives_zero_and_no_nan():
    batch = make_batch()
    batch = replace(batch, roles_BS=torch.full_like(batch.roles_BS, Role.GIVEN))
    objective = build()
    inputs, targets = objective.prepare(batch, STREAM)
    outputs = logits_of(inputs)
    terms = objective.loss(outputs, targets)
    terms.sum.backward()
    assert terms.sum == 0
    assert terms.weight == 0
    assert all(not logits.grad.any() for logits in outputs.values())
    assert all(total == 0 and weight == 0 for total, weight in terms.metrics.values())


def test_absent_modality_has_rows_without_gradient():
    objective = build()
    inputs, targets = objective.prepare(make_batch(("text",)), STREAM)
    outputs = logits_of(inputs)
    objective.loss(outputs, targets).sum.backward()
    assert outputs["text"].grad.any()
    assert len(outputs["audio"]) > 0
    assert not outputs["audio"].grad.any()


def test_weight_is_the_number_of_maskable_positions_whatever_the_noise():
    weights = ModalityWeights(text=1.0, image=0.5, audio=2.0)
    for seed in range(3):
        _, targets = build(loss_weights=weights).prepare(make_batch(), Stream(seed=seed))
        assert targets.weight == 10 * (3 * 1.0 + 3 * 0.5 + 2 * 2.0)


def test_masked_condition_counts_and_dropped_condition_does_not():
    batch = make_batch()
    roles_BS = batch.roles_BS.clone()
    roles_BS[:, 1:5] = Role.CONDITION
    batch = replace(batch, roles_BS=roles_BS)
    for treatment, positions in (
        (ConditionTreatment(masking_probability=1.0), 10),
        (ConditionTreatment(dropout=1.0), 6),
    ):
        _, targets = build(condition=treatment).prepare(batch, STREAM)
        assert targets.weight == positions * B


def test_padding_is_marked_only_where_there_is_some():
    batch = make_batch()
    inputs, _ = build().prepare(batch, STREAM)
    assert torch.equal(inputs.padding_BS, batch.roles_BS == Role.PADDING)
    full = replace(batch, roles_BS=batch.roles_BS.clamp(max=Role.TARGET), lengths_BD=batch.lengths_BD + 1)
    assert build().prepare(full, STREAM)[0].padding_BS is None


def test_a_lost_document_is_no_padding_and_has_no_loss():
    """Padding all along a row would leave its softmax without a key."""
    batch = make_batch(("text",), num_rows=2)
    lost = batch.without(torch.tensor([[True], [False]]))
    inputs, targets = build().prepare(lost, STREAM)
    assert torch.equal(inputs.padding_BS, batch.roles_BS == Role.PADDING)
    assert targets.weight == 10


def test_metrics_by_hand():
    objective, batch = build(num_noise_bins=2), make_batch(("text",), num_rows=2)
    inputs, targets = objective.prepare(batch, STREAM)
    logits_RV = logits_of(inputs)["text"]
    terms = objective.loss({**logits_of(inputs), "text": logits_RV}, targets)
    real_R = targets.labels["text"] != NO_LABEL
    labels_R = targets.labels["text"][real_R]
    log_probabilities_RV = torch.log_softmax(logits_RV[real_R], 1)
    losses_R = -log_probabilities_RV[torch.arange(len(labels_R)), labels_R]
    assert terms.metrics["accuracy/text"][0] == (log_probabilities_RV.argmax(1) == labels_R).sum()
    assert terms.metrics["accuracy/text"][1] == len(labels_R)
    nelbo = (targets.row_weights["text"][real_R] * losses_R).sum()
    torch.testing.assert_close(terms.metrics["nelbo/text"], (nelbo, torch.tensor(20.0)))
    levels_R = 1 / targets.row_weights["text"][real_R]  # linear schedule
    for k, inside_R in enumerate((levels_R < 0.5, levels_R >= 0.5)):
        expected = (losses_R[inside_R].sum(), inside_R.sum().float())
        torch.testing.assert_close(terms.metrics[f"ce/text/bin{k}"], expected)


def test_low_precision_logits_are_read_in_float32():
    objective = build()
    inputs, targets = objective.prepare(make_batch(), STREAM)
    outputs = {modality: logits.bfloat16() for modality, logits in logits_of(inputs).items()}
    exact = objective.loss({modality: logits.float() for modality, logits in outputs.items()}, targets)
    low = objective.loss(outputs, targets)
    assert low.sum.dtype == torch.float32
    assert torch.equal(low.sum, exact.sum)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"head_capacity": 0.0}, "head_capacity"), ({"num_noise_bins": 0}, "num_noise_bins")],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        build(**settings)


def test_bad_loss_weight_is_refused():
    with pytest.raises(ValueError, match="image"):
        ModalityWeights(image=float("nan"))
