"""The noise scale as the engine measures it: against rows one at a time, in every layout, leaving no trace."""

from dataclasses import fields, replace
from unittest.mock import patch

import noise_rows
import pytest
import torch
from layout_run import SHORT, Cell, alone, mixture, quiet_engine
from torch import distributed

from triptych.trainer.engine.engine import Engine
from triptych.trainer.parallel.layout import ParallelLayout
from triptych.trainer.scaling.config import NoiseScaleConfig
from triptych.trainer.scaling.noise import NoiseScale, estimate

NUM_ROWS = 16
FP32, BF16 = 1e-3, 0.05
"""Largest relative errors: weights of layouts differ by 1e-6 after three steps, bf16 has 8 bits."""

CELLS = (
    Cell(data=2, total_tokens=SHORT),
    Cell(data=2, zero=0, micro=3, total_tokens=SHORT),
    Cell(layout=ParallelLayout(tensor=2, sequence=True), total_tokens=SHORT),
    Cell(layout=ParallelLayout(pipeline=2), micro=8, total_tokens=SHORT),
    Cell(layout=ParallelLayout(pipeline=2, virtual=2), total_tokens=SHORT),
    Cell(data=2, precision="bf16", total_tokens=SHORT),
    Cell(layout=ParallelLayout(pipeline=2), precision="bf16", total_tokens=SHORT),
)

MODALITY_PARTS = {"all": "", "text": "heads.text.", "image": "heads.image.", "audio": "heads.audio."}


def measurement_of(rows, micro, groups):
    noise = NoiseScale(NoiseScaleConfig(every_tokens=1, half_life_tokens=1), MODALITY_PARTS)
    return noise.cut(rows, micro, groups, tokens=0, together=1)


def squares_of(engine, rows, micro, groups, objective):
    cut = measurement_of(rows, micro, groups)
    engine.forward_backward(cut.micro_batches, objective, noise_rows.STREAM, cut.halves)
    return cut.halves.squares


def measured(cell):
    """Part to squares after a short run in this layout."""
    with noise_rows.groups_of(cell, distributed.get_rank()) as groups:
        state = noise_rows.trained(cell, groups)
        rows, _ = mixture().batch({}, NUM_ROWS, groups.data_rank, groups.num_data_ranks)
        state.engine.divisor.restore({"weight": 0.0, "sequences": 0})  # the next batch is divided by its own weight
        squares = squares_of(state.engine, rows, cell.micro, groups, noise_rows.objective(groups))
        state.engine._deepspeed.destroy()
    return squares


def measured_all(cells):
    with quiet_engine():
        return [measured(cell) for cell in cells]


def expected(cell):
    """The same from one process and single rows: part to (whole, difference) for one and for two data ranks."""
    with quiet_engine(), alone(), noise_rows.groups_of(cell) as groups:
        state = noise_rows.trained(cell, groups)
        rows, _ = mixture().batch({}, NUM_ROWS, 0, 1)
        gradients, weights = noise_rows.row_gradients(state.engine.module, noise_rows.objective(groups), rows)
        state.engine._deepspeed.destroy()
    found = {}
    for part, prefix in MODALITY_PARTS.items():
        rows_BP = noise_rows.flat(gradients, prefix) * NUM_ROWS / weights.sum()
        whole = rows_BP.mean(0).square().sum().item()
        for num_ranks in (1, 2):
            halves = rows_BP.view(num_ranks, 2, -1, rows_BP.shape[1]).mean(2)
            difference = (halves[:, 0] - halves[:, 1]).square().sum(1).mean().item()
            found[part, num_ranks] = (whole, difference)
    return found


def test_every_layout_finds_the_squares_that_single_rows_give(run_processes):
    references = {precision: expected(Cell(precision=precision, total_tokens=SHORT)) for precision in ("fp32", "bf16")}
    by_rank = run_processes(measured_all, 2, CELLS)
    assert by_rank[0] == by_rank[1]
    for cell, squares in zip(CELLS, by_rank[0], strict=True):
        for part, found in squares.items():
            reference = references[cell.precision][part, cell.data]
            bound = FP32 if cell.precision == "fp32" else BF16
            assert (found.whole, found.difference) == pytest.approx(reference, rel=bound), f"{cell}: {part}"


class FixedDivisor:
    """An objective whose rows all weigh the same."""

    def __init__(self, objective):
        self._objective = objective
        self.loss = objective.loss

    def prepare(self, rows, stream):
        inputs, targets = self._objective.prepare(rows, stream)
        return inputs, replace(targets, weight=torch.tensor(float(len(rows))))


def drawn(pool, indices):
    """Rows of a pool, each as often as it is drawn."""
    tensors = {field.name: getattr(pool, field.name) for field in fields(pool)}
    return replace(pool, **{k: v[indices] for k, v in tensors.items() if isinstance(v, torch.Tensor)})


@pytest.fixture(scope="module")
def estimates():
    """Of 150 batches of 7 rows drawn from a pool at fixed weights; and the exact (|G|^2, S), by part."""
    cell, generator, found = Cell(zero=0, total_tokens=SHORT), torch.Generator().manual_seed(0), []
    with quiet_engine(), alone(), noise_rows.groups_of(cell) as groups:
        engine = noise_rows.trained(cell, groups).engine
        engine.divisor.restore({"weight": 0.0, "sequences": 0})
        pool, _ = mixture().batch({}, 24, 0, 1)
        objective = noise_rows.objective(groups)
        gradients, _ = noise_rows.row_gradients(engine.module, objective, pool)
        for _ in range(150):
            rows = drawn(pool, torch.randint(len(pool), (7,), generator=generator))
            found.append(squares_of(engine, rows, 7, groups, FixedDivisor(objective)))
            noise_rows.forget_gradients(engine)
        engine._deepspeed.destroy()
    exact = {}
    for part, prefix in MODALITY_PARTS.items():
        rows_BP = noise_rows.flat(gradients, prefix)
        signal = rows_BP.mean(0).square().sum().item()
        exact[part] = torch.tensor([signal, rows_BP.square().sum(1).mean().item() - signal], dtype=torch.float64)
    return found, exact


def errors_in_sigmas(estimates, part, rows):
    squares, exact = estimates
    each = [estimate(found[part], rows=rows, batch=7) for found in squares]
    values = torch.tensor([(one.signal, one.noise) for one in each], dtype=torch.float64)
    return (values.mean(0) - exact[part]) / (values.std(0) / len(values) ** 0.5)


@pytest.mark.parametrize("part", MODALITY_PARTS)
def test_the_mean_of_many_batches_is_the_mean_and_covariance_of_the_rows(estimates, part):
    assert errors_in_sigmas(estimates, part, (3, 4)).abs().max() < 4


def test_rows_forgotten_in_the_noise_are_noticed(estimates):
    assert errors_in_sigmas(estimates, "all", (1, 1)).abs().max() > 8


def losses(cell, *, measuring):
    """Of a run in which every step is measured, or none."""
    plain, records = Engine.forward_backward, []

    def measuring_all(engine, micro_batches, objective, stream):
        (rows,) = micro_batches
        cut = measurement_of(rows, cell.micro, engine._groups)
        return plain(engine, cut.micro_batches, objective, stream, cut.halves)

    with quiet_engine(), alone(), noise_rows.groups_of(cell) as groups:
        with patch.object(Engine, "forward_backward", measuring_all if measuring else plain):
            state = noise_rows.trained(cell, groups, reporters=[records.append])
        state.engine._deepspeed.destroy()
    return [record.metrics["loss"] for record in records]


@pytest.mark.parametrize(("zero", "precision", "bound"), [(0, "fp32", 1e-6), (1, "fp32", 1e-6), (1, "bf16", 1e-2)])
def test_a_measured_step_is_the_step_it_would_have_been(zero, precision, bound):
    cell = Cell(zero=zero, precision=precision, micro=NUM_ROWS)
    assert losses(cell, measuring=True) == pytest.approx(losses(cell, measuring=False), rel=bound)


def test_partitioned_gradients_are_refused():
    cell = Cell(zero=2, total_tokens=SHORT)
    with quiet_engine(), alone(), noise_rows.groups_of(cell) as groups:
        engine = noise_rows.trained(cell, groups).engine
        engine.divisor.restore({"weight": 0.0, "sequences": 0})
        rows, _ = mixture().batch({}, NUM_ROWS, 0, 1)
        with pytest.raises(ValueError, match=r"set fit\.engine\.zero_stage=1"):
            squares_of(engine, rows, 8, groups, noise_rows.objective(groups))
        engine._deepspeed.destroy()
