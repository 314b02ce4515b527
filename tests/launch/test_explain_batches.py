"""`triptych train --explain`: every group's values from base to physical batch; what the guards refuse and warn of."""

import re

import pytest

pytest_plugins = ["command_fixtures"]

SCHEDULE = "fit.physical_batch={tokens: [0, 1000000], sequences: [4, 16]}"


def explained(command, run, *settings):
    done = command("train", run, "--explain", *(part for setting in settings for part in ("--set", setting)))
    assert (done.code, done.err) == (0, "")
    return done.out


def rows(out):
    """(kind, place) to its numbers: learning rate, betas, epsilon, decay (None where there is none)."""
    found, kind = {}, None
    for line in out.partition("parameters  ")[2].partition("\n\n")[0].splitlines()[1:]:
        kind = line[:16].strip() or kind
        place = line[33:51].strip()
        found[kind, place] = [None if cell == "-" else float(cell) for cell in line[51:].split()]
    return found


@pytest.fixture(scope="module")
def ratio():
    """kappa of 512 rows on 6.4T tokens, from 32 on 13B, with exponent 0.44."""
    return 512 / 32 * (13e9 / 6.4e12) ** 0.44


def test_the_large_run_is_explained_from_its_pilot(command, ratio):
    """Width and depth three times the pilot's, kappa 1.046: by Complete(d)P and the square-root rule."""
    done = command("train", "trimodal_3b", "--explain", "--world-size", "64")
    assert (done.code, done.err) == (0, "")
    assert "logical   489 rows = 32 x 492.3^0.44" in done.out
    assert re.search(r"physical  512 rows = 64 data-parallel x 8 micro-batches of 1, .* kappa 1.046", done.out)
    table = rows(done.out)
    assert table["mlp in", "base"] == [1e-3, 0.9, 0.95, 1e-8, 0.1]
    assert table["mlp in", "logical 489"] == pytest.approx([1e-3 / 3, 0.9, 0.95, 1e-8 / 9, 0.3], rel=1e-3)
    assert table["mlp in", "physical 512"] == pytest.approx(
        [1e-3 / 3 * ratio**0.5, 0.9**ratio, 0.95**ratio, 1e-8 / 9 / ratio**0.5, 0.3 * ratio**0.5], rel=1e-3
    )
    assert table["embedding", "logical 489"] == pytest.approx([1e-3, 0.9, 0.95, 1e-8 / 3, 0.1], rel=1e-3)
    assert table["norm", "base"][-1] is None


def test_every_batch_of_a_schedule_has_its_row(command):
    out = explained(command, "trimodal_demo", SCHEDULE)
    assert re.search(r"physical  16 rows = .*; from 1,000,000 tokens on", out)
    table = rows(out)
    assert table["embedding", "physical 4"] == table["embedding", "base"]
    assert table["embedding", "physical 16"][0] == pytest.approx(2 * table["embedding", "base"][0])


def test_averages_are_explained(command):
    averages = "fit.averages=[{name: fast, decay: 0.9}, {name: mean, kind: uniform}]"
    out = explained(command, "trimodal_demo", SCHEDULE, averages)
    assert "average fast: decay per step 0.9 at the logical batch, 0.9 at 4, 0.6561 at 16" in out
    assert "average mean: uniform" in out


def test_an_average_in_tokens_follows_the_batch_without_a_rule(command):
    averages = "fit.averages=[{name: slow, half_life_tokens: 10000}]"
    with_rule, without = (
        explained(command, "trimodal_demo", "fit.physical_batch=64", averages, f"fit.scaling.rule={rule}")
        for rule in ("sde", "none")
    )
    line = next(line for line in with_rule.splitlines() if line.startswith("average slow"))
    assert line in without.splitlines()


def test_no_clipping_is_called_that(command):
    assert "gradients not clipped" in explained(command, "trimodal_demo", "fit.engine.gradient_clipping=0")


def test_without_a_rule_all_values_stay(command):
    out = explained(command, "trimodal_demo", "fit.physical_batch=256", "fit.scaling.rule=none")
    table = rows(out)
    assert table["embedding", "physical 256"] == table["embedding", "base"]
    assert "warning" not in out


def test_a_batch_beyond_the_rule_is_named_with_its_mend(command):
    out = explained(command, "trimodal_demo", "fit.physical_batch=64")
    assert re.search(r"warning at batch 64: beta1\^kappa is 0\.185, under 0\.5: .* lower fit\.physical_batch", out)


def test_training_refuses_a_batch_that_the_linear_form_cannot_take(command, tmp_path):
    run_dir = tmp_path / "run"
    settings = ("--set", "fit.physical_batch=256", "--set", "fit.scaling.betas=linear")
    done = command("train", "trimodal_demo", "--run-dir", str(run_dir), *settings)
    assert (done.code, run_dir.exists()) == (2, False)
    assert "a batch of 256: " in done.err
    assert "fit.scaling.betas=power" in done.err


def test_a_physical_batch_that_does_not_divide_is_refused_by_its_own_name(command):
    done = command("train", "trimodal_demo", "--explain", "--world-size", "4", "--set", "fit.physical_batch=30")
    assert done.code == 2
    assert "fit.physical_batch=30 does not divide into 4 data-parallel ranks" in done.err
    assert "fit.physical_batch=24 or 28 or 32" in done.err
