"""`triptych data account`: a run that lost documents is accounted for; one whose logs do not fit is told."""

import json
import shutil

import numpy as np
import pytest

from triptych.launch.cli import main

pytest_plugins = ["command_fixtures"]
LOST_SAMPLE = 4


@pytest.fixture(scope="module")
def lossy_run(world, tmp_path_factory):
    """Directory of a finished run over digits of which one caption is damaged. Shared: copy it to change it."""
    own = type(world)(tmp_path_factory.mktemp("lossy"))
    shutil.copytree(world.data, own.data)
    folder = own.data / "codes" / "digits" / "train"
    spans = np.load(folder / "shard-000000.index.npy")["text.npy"][LOST_SAMPLE]
    data = bytearray((folder / "shard-000000.tar").read_bytes())
    data[spans["offset"] + spans["size"] - 1] ^= 1
    (folder / "shard-000000.tar").write_bytes(data)
    with pytest.raises(SystemExit) as ended:
        main(own.training(own.runs / "lossy"))
    assert not ended.value.code
    return own.runs / "lossy"


def test_a_run_that_lost_nothing_adds_up(command, trained):
    done = command("data", "account", trained)
    assert (done.code, done.err) == (0, "")
    assert "+ lost 0, each by its id" in done.out


def test_every_loss_is_named_with_its_reason(command, lossy_run):
    done = command("data", "account", lossy_run, "--json")
    found = json.loads(done.out)
    records = [json.loads(line) for line in (lossy_run / "logs" / "rank0.jsonl").read_text().splitlines()]
    steps = [record for record in records if "event" not in record]
    assert (done.code, found["holds"], found["tokens"]) == (0, True, steps[-1]["tokens"])
    assert found["planned"] == found["seen"] + found["lost"] == sum(step["samples"] for step in steps)
    assert found["lost"] == sum(step["lost_samples"] for step in steps) > 0
    for entry in found["epochs"]:
        if entry["complete"] and entry["source"] in ("t2i", "i2t"):
            assert (entry["planned"], entry["seen"]) == (30, 29)
            assert entry["lost"] == [{"sample": LOST_SAMPLE, "offset": 0, "reason": "checksum"}]
    assert sum(entry["complete"] for entry in found["epochs"]) >= 1


def test_the_table_says_the_reasons(command, lossy_run):
    done = command("data", "account", lossy_run)
    assert "1 checksum" in done.out
    assert "(begun)" in done.out


def test_losses_that_were_not_reported_do_not_add_up(command, lossy_run, tmp_path):
    run = shutil.copytree(lossy_run, tmp_path / "run")
    log = run / "logs" / "rank0.jsonl"
    log.write_text("".join(line for line in log.read_text().splitlines(True) if '"event": "lost"' not in line))
    done = command("data", "account", run)
    assert done.code == 1
    assert "does not add up" in done.out and "of which 0 are reported" in done.out
    assert json.loads(command("data", "account", run, "--json").out)["holds"] is False


def test_a_step_that_the_log_lacks_does_not_add_up(command, own_run):
    log = own_run / "logs" / "rank0.jsonl"
    log.write_text("".join(log.read_text().splitlines(True)[1:]))
    done = command("data", "account", own_run)
    assert (done.code, "documents were planned, the steps of" in done.out) == (1, True)


def _no_log(run):
    (run / "logs" / "rank0.jsonl").unlink()


def _no_checkpoint(run):
    shutil.rmtree(run / "checkpoints")


def _damaged_log(run):
    (run / "logs" / "rank0.jsonl").write_text("{}\n")


def _other_seed(run):
    text = (run / "run.yaml").read_text()
    assert "seed: 0" in text
    (run / "run.yaml").write_text(text.replace("seed: 0", "seed: 1"))


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (_no_log, "rank0.jsonl is missing"),
        (_no_checkpoint, "holds no checkpoint"),
        (_damaged_log, "line 1 is not of this version's logs"),
        (_other_seed, "not in the order that the run went through"),
    ],
)
def test_what_cannot_be_accounted_for_is_refused(assert_refused, own_run, harm, says):
    harm(own_run)
    assert_refused("data", "account", own_run, says=says)


def test_a_folder_without_a_run_is_refused(assert_refused, tmp_path):
    assert_refused("data", "account", tmp_path, says="holds no run")
