"""The forward process: times, masks, twins, conditions, and what the noise may depend on."""

from dataclasses import replace

import pytest
import torch
from document_rows import one_each

from triptych.data_pipelines.batch import Role
from triptych.data_pipelines.vocabulary import MODALITIES, Vocabulary
from triptych.kernels.philox import Purpose, Stream
from triptych.models.diffusion.corruption import ConditionTreatment, corrupt, stratified_times
from triptych.models.diffusion.schedules import Cosine, CosineMdlm, Linear, ModalitySchedules

VOCABULARY = Vocabulary(text=6, image=5, audio=4)
SCHEDULES = ModalitySchedules(text=Linear(), image=Cosine(), audio=CosineMdlm())
NO_CONDITION = ConditionTreatment(masking_probability=0.0, dropout=0.0)
S = 16


def make_batch(num_rows, *, twins=False, first=0):
    """Rows of [given, 5 text as condition, given, 4 image and 3 audio as target, 2 padding]."""
    generator = torch.Generator().manual_seed(num_rows)
    tokens_BS = torch.zeros(num_rows, S, dtype=torch.int64)
    tokens_BS[:, 0], tokens_BS[:, 6] = VOCABULARY.special("task_t2i"), VOCABULARY.special("begin_image")
    for modality, part in (("text", slice(1, 6)), ("image", slice(7, 11)), ("audio", slice(11, 14))):
        start, stop = VOCABULARY.start(modality), VOCABULARY.start(modality) + VOCABULARY.num_outputs(modality)
        width = part.stop - part.start
        tokens_BS[:, part] = torch.randint(start, stop, (num_rows, width), generator=generator)
    tokens_BS[:, 14:] = VOCABULARY.special("pad")
    roles_BS = torch.full((num_rows, S), Role.GIVEN, dtype=torch.uint8)
    roles_BS[:, 1:6], roles_BS[:, 7:14], roles_BS[:, 14:] = Role.CONDITION, Role.TARGET, Role.PADDING
    rows_B = torch.arange(num_rows)
    originals_B = rows_B - rows_B % 2 if twins else rows_B
    return one_each(
        tokens_BS[originals_B],
        roles_BS,
        torch.stack([rows_B * 0 + 1, originals_B + first, rows_B * 0], 1),
        copies_B=rows_B - originals_B,
        numbers_B=rows_B + first,
    )


def times_of(batch, stream, *, num_strata=64, copies=1):
    """[B]: every row is one document."""
    return stratified_times(batch, stream, num_strata=num_strata, copies=copies)[:, 0]


def corrupted(batch, *, condition=NO_CONDITION, twins=False, seed=5):
    stream = Stream(seed=seed)
    times_B = times_of(batch, stream, copies=2 if twins else 1)
    return corrupt(
        batch, times_B[:, None], schedules=SCHEDULES, condition=condition, vocabulary=VOCABULARY, stream=stream
    ), times_B


def permuted(batch, order):
    names = ("tokens_BS", "roles_BS", "samples_BD3", "copies_B", "numbers_BD")
    return replace(batch, **{name: getattr(batch, name)[order] for name in names})


def test_only_targets_are_masked_and_all_masks_are_marked():
    batch = make_batch(64)
    corruption, _ = corrupted(batch)
    assert torch.equal(corruption.maskable_BS, batch.roles_BS == Role.TARGET)
    assert torch.equal(corruption.tokens_BS == VOCABULARY.mask, corruption.masked_BS)
    untouched_BS = ~corruption.masked_BS
    assert torch.equal(corruption.tokens_BS[untouched_BS], batch.tokens_BS[untouched_BS])


@pytest.mark.parametrize("modality", ["image", "audio"])
def test_masked_fraction_follows_the_modalitys_schedule(modality):
    """Over times, the mean mask probability is the integral of m: 2/pi for cosine, 1 - 2/pi for MDLM's cosine."""
    corruption, _ = corrupted(make_batch(20_000))
    chosen_BS = corruption.maskable_BS & (corruption.modality_BS == MODALITIES.index(modality))
    fraction = corruption.masked_BS[chosen_BS].double().mean().item()
    expected = {"image": 2 / torch.pi, "audio": 1 - 2 / torch.pi}[modality]
    assert fraction == pytest.approx(expected, abs=4 * 0.5 / chosen_BS.sum().item() ** 0.5)


def test_mask_rate_at_one_level():
    """Rows whose level is within 0.02 of 0.3 have 0.3 of their tokens masked, to 4 standard errors."""
    corruption, _ = corrupted(make_batch(40_000))
    near_B = (corruption.levels_BS[:, 7] - 0.3).abs() < 0.02
    masked = corruption.masked_BS[near_B][:, 7:11].double()
    assert masked.mean().item() == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / masked.numel()) ** 0.5 + 0.001)


@pytest.mark.parametrize("twins", [False, True])
def test_noise_does_not_depend_on_the_micro_batch(twins):
    batch = make_batch(24, twins=twins)
    condition = ConditionTreatment(masking_probability=0.3, dropout=0.3)
    whole, times_B = corrupted(batch, condition=condition, twins=twins)
    for size in (1, 5, 8):
        for start in range(0, 24, size):
            part, part_times_B = corrupted(batch.rows(start, start + size), condition=condition, twins=twins)
            assert torch.equal(part_times_B, times_B[start : start + size])
            assert torch.equal(part.tokens_BS, whole.tokens_BS[start : start + size])
            assert torch.equal(part.weights_BS, whole.weights_BS[start : start + size])


def test_noise_does_not_depend_on_row_order():
    batch = make_batch(24)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    whole, _ = corrupted(batch)
    shuffled, _ = corrupted(permuted(batch, order))
    assert torch.equal(shuffled.tokens_BS, whole.tokens_BS[order])


def test_noise_changes_with_seed_epoch_and_sample():
    batch = make_batch(24)
    epoch_BD3 = batch.samples_BD3 + torch.tensor([0, 0, 1])
    index_BD3 = batch.samples_BD3 + torch.tensor([0, 1000, 0])
    masks = [corrupted(batch)[0], corrupted(batch, seed=6)[0]]
    masks += [corrupted(replace(batch, samples_BD3=samples_BD3))[0] for samples_BD3 in (epoch_BD3, index_BD3)]
    different = {tuple(mask.masked_BS.flatten().tolist()) for mask in masks}
    assert len(different) == len(masks)


@pytest.mark.parametrize("copies", [1, 2])
def test_every_stratum_of_time_has_its_document(copies):
    batch, stream = make_batch(64 * copies, twins=copies == 2, first=128), Stream(seed=1)
    stretch = torch.tensor([1, 128 // copies // 64, 0])  # of source 1
    shift = stream.uniform_at(Purpose.TIME_SHIFT, stretch, torch.tensor(0))
    unshifted_B = torch.remainder(times_of(batch, stream, copies=copies) - shift, 1)
    strata_B = (unshifted_B * 64).floor().long()
    assert torch.equal(strata_B[::copies].sort().values, torch.arange(64))


@pytest.mark.parametrize("num_rows", [8, 16, 32])
def test_a_part_of_the_strata_is_spread_over_all_times(num_rows):
    """No gap between neighbouring times, around the circle, is wider than three even ones."""
    for first in range(0, 64 - num_rows, 5):
        times = times_of(make_batch(num_rows, first=first), Stream(seed=1)).sort().values
        gaps = torch.cat([times.diff(), (times[:1] + 1 - times[-1:])])
        assert gaps.max().item() < 3 / num_rows


def test_cutting_a_run_into_other_batches_moves_no_time():
    stream, whole = Stream(seed=1), times_of(make_batch(300), Stream(seed=1))
    parts = [times_of(make_batch(300).rows(start, start + 20), stream) for start in range(0, 300, 20)]
    assert torch.equal(torch.cat(parts), whole)


def test_mean_time_varies_far_less_than_independent_draws():
    means = [times_of(make_batch(64, first=64 * k), Stream(seed=1)).mean() for k in range(300)]
    independent_variance = 1 / 12 / 64
    assert torch.stack(means).var().item() < independent_variance / 20


@pytest.mark.parametrize("slot", [0, 17])
def test_time_of_one_row_is_uniform(slot):
    row = make_batch(32).rows(slot, slot + 1)
    later = torch.tensor([0, 32, 0])
    batches = [
        replace(row, samples_BD3=row.samples_BD3 + later * k, numbers_BD=row.numbers_BD + 32 * k) for k in range(2000)
    ]
    times = torch.cat([times_of(batch, Stream(seed=2), num_strata=32) for batch in batches])
    counts = torch.histc(times.float(), bins=40, min=0, max=1).double()
    assert ((counts - 50) ** 2 / 50).sum() < 76  # 99.96th percentile of chi-square with 39 degrees of freedom
    assert times.min() > 0
    assert times.max() < 1


def test_twin_masks_the_complement_at_the_same_time():
    batch = make_batch(512, twins=True)
    corruption, times_B = corrupted(batch, twins=True)
    original_BS, twin_BS = corruption.masked_BS[0::2], corruption.masked_BS[1::2]
    assert torch.equal(times_B[0::2], times_B[1::2])
    assert torch.equal(original_BS ^ twin_BS, corruption.maskable_BS[0::2])
    torch.testing.assert_close(corruption.levels_BS[0::2], 1 - corruption.levels_BS[1::2], rtol=0, atol=1e-15)


def test_twins_share_the_fate_of_their_condition():
    treatment = ConditionTreatment(masking_probability=0.4, dropout=0.5)
    corruption, _ = corrupted(make_batch(512, twins=True), condition=treatment, twins=True)
    assert torch.equal(corruption.maskable_BS[0::2], corruption.maskable_BS[1::2])
    assert torch.equal((corruption.masked_BS[0::2] ^ corruption.masked_BS[1::2]), corruption.maskable_BS[0::2])


def test_condition_is_dropped_whole_at_its_rate_without_loss():
    treatment = ConditionTreatment(masking_probability=0.0, dropout=0.25)
    corruption, _ = corrupted(make_batch(8000), condition=treatment)
    hidden_BS = corruption.tokens_BS[:, 1:6] == VOCABULARY.mask
    dropped_B = hidden_BS.all(1)
    assert torch.equal(dropped_B, hidden_BS.any(1))
    assert not corruption.maskable_BS[:, 1:6].any()
    assert dropped_B.double().mean().item() == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / 8000) ** 0.5)


def test_condition_is_masked_at_its_rate_and_level_with_loss():
    treatment = ConditionTreatment(masking_probability=0.4, dropout=0.0)
    corruption, times_B = corrupted(make_batch(8000), condition=treatment)
    joint_B = corruption.maskable_BS[:, 1:6].all(1)
    assert torch.equal(joint_B, corruption.maskable_BS[:, 1:6].any(1))
    assert joint_B.double().mean().item() == pytest.approx(0.4, abs=4 * (0.4 * 0.6 / 8000) ** 0.5)
    expected = (
        Linear().mask_probability(times_B[joint_B]).mean().item()
    )  # the condition is text, whose schedule is linear
    masked = corruption.masked_BS[joint_B][:, 1:6].double()
    assert masked.mean().item() == pytest.approx(expected, abs=4 * 0.5 / masked.numel() ** 0.5)


def test_dropout_applies_to_the_rows_that_are_not_joint():
    treatment = ConditionTreatment(masking_probability=0.5, dropout=1.0)
    corruption, _ = corrupted(make_batch(256), condition=treatment)
    joint_B = corruption.maskable_BS[:, 1]
    hidden_BS = corruption.tokens_BS[:, 1:6] == VOCABULARY.mask
    assert hidden_BS[~joint_B].all()
    assert torch.equal(hidden_BS[joint_B], corruption.masked_BS[joint_B][:, 1:6])


@pytest.mark.parametrize("name", ["masking_probability", "dropout"])
def test_condition_probabilities_outside_the_range_are_refused(name):
    with pytest.raises(ValueError, match=name):
        ConditionTreatment(**{name: 1.5})
