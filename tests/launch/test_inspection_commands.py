"""`triptych data stats | inspect`."""

import json

import pytest

pytest_plugins = ["command_fixtures"]


def test_stats_of_sets_are_printed(command, world):
    done = command("data", "stats", world.data / "codes" / "digits" / "train", world.data / "raw" / "text" / "train")
    assert (done.code, done.err) == (0, "")
    for words in ("30 samples, 1 shards", "median", ".image.npy", ".txt", "left out when it was made: none"):
        assert words in done.out


def test_stats_for_machines(command, world):
    done = command("data", "stats", world.data / "codes" / "speech" / "train", "--json")
    (found,) = json.loads(done.out)
    assert (found["samples"], found["packing"]) == (30, [])
    assert found["codes"]["audio"]["lengths"]["number"] == 30


def test_stats_say_what_packing_does_under_a_run(command, world):
    done = command("data", "stats", world.data / "codes" / "digits" / "train", "--run", "trimodal_demo", "--json")
    (found,) = json.loads(done.out)
    assert [packed["task"] for packed in found["packing"]] == ["t2i", "i2t"]
    assert all(0 <= packed["padding"] < 1 for packed in found["packing"])


def test_a_runs_settings_change_its_packing(command, world):
    given = [world.data / "codes" / "text" / "train", "--run", "trimodal_demo", "--json"]
    wide = command("data", "stats", *given, "--set", "data.packing.row_length=500")
    assert json.loads(wide.out)[0]["packing"][0]["row_length"] == 500


@pytest.mark.parametrize(("task", "source"), [("text", "text"), ("t2i", "digits"), ("s2t", "speech")])
def test_stats_say_what_packing_does_for_a_task(command, world, task, source):
    folder = world.data / "codes" / source / "train"
    done = command("data", "stats", folder, "--task", task, "--row-length", 200, "--json")
    (packed,) = json.loads(done.out)[0]["packing"]
    assert (packed["task"], packed["row_length"], sum(packed["cut"].values())) == (task, 200, 0)
    assert packed["num_tokens"] <= packed["num_rows"] * 200


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--task", "t2i"], "--row-length"),
        (["--row-length", 100], "--task"),
        (["--task", "t2x", "--row-length", 100], "t2x"),
        (["--task", "t2s", "--row-length", 100], "no audio codes"),
        (["--task", "t2i", "--row-length", 12], "--row-length is 12"),
        (["--task", "t2i", "--row-length", 0], "--row-length 0"),
        (["--run", "trimodal_dmo"], "did you mean trimodal_demo"),
        (["--run", "trimodal_demo", "--row-length", 9], "--run"),
        (["--set", "data.packing.row_length=9"], "--run"),
    ],
)
def test_options_that_do_not_go_together_are_refused(assert_refused, world, given, says):
    assert_refused("data", "stats", world.data / "codes" / "digits" / "train", *given, says=says)


@pytest.mark.parametrize("command_name", ["stats", "inspect"])
def test_a_set_that_is_not_there_is_refused(assert_refused, tmp_path, command_name):
    more = ["--out", tmp_path / "page.html"] if command_name == "inspect" else []
    assert_refused("data", command_name, tmp_path / "none", *more, says=tmp_path / "none")


def test_inspect_writes_a_page(command, world, tmp_path):
    given = [world.data / "codes" / "digits" / "train", "--tokenizers", world.data / "tokenizers"]
    done = command("data", "inspect", *given, "--out", tmp_path / "deep" / "page.html", "--num-samples", 3)
    assert (done.code, done.err) == (0, "")
    assert "30 of 30 samples read, 3 shown" in done.out
    assert (tmp_path / "deep" / "page.html").read_text().count('class="card sample') == 3


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--out", "page.txt"], "page.txt"),
        (["--out", "page.html", "--num-samples", 0], "--num-samples 0"),
        (["--out", "page.html", "--tokenizers", "nowhere"], "nowhere"),
    ],
)
def test_inspect_refuses_in_one_line(assert_refused, world, given, says):
    assert_refused("data", "inspect", world.data / "codes" / "digits" / "train", *given, says=says)
