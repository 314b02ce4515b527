"""`triptych data prepare`: raw files to a set that trains, its stages as tasks of an array, and errors in one line."""

import io
import json

import pytest
from rich.console import Console
from tiny_world import digit_sample

from triptych.data_pipelines.prepare.processes import Counts
from triptych.data_pipelines.shards.manifest import read_manifest
from triptych.launch.commands.data import preparation

pytest_plugins = ["command_fixtures"]

TEXTS = [
    f"Number {i} is a sentence of its own, with {'many ' * (i % 3)}words that nobody else has: {i * 7919}."
    for i in range(12)
]


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    for name, texts in (("a.jsonl", TEXTS[:6]), ("b.jsonl", TEXTS[6:])):
        (folder / name).write_text("".join(json.dumps({"body": text}) + "\n" for text in texts))
    return folder


@pytest.fixture
def arguments(raw, world, tmp_path):
    options = ["--kind", "text", "--out", tmp_path / "codes", "--tokenizers", world.data / "tokenizers"]
    changes = ["--text-field", "body", "--near-duplicates", 0, "--set", "filters.min_characters=20"]
    return ["data", "prepare", raw, *options, *changes, "--set", "inputs.part_bytes=400"]


def test_all_stages_then_nothing_to_do(command, arguments, tmp_path):
    done, again = command(*arguments), command(*arguments)
    assert (done.code, done.err) == (0, "")
    assert "12 of 12 samples" in done.out
    assert again.out == f"{tmp_path / 'codes'} is finished already, of the same inputs and settings; nothing to do\n"
    assert read_manifest(tmp_path / "codes").num_samples == 12


def test_tasks_of_an_array_give_the_same_set(command, arguments, tmp_path, monkeypatch):
    command(*arguments)
    alone = {path.name: path.read_bytes() for path in (tmp_path / "codes").iterdir()}
    (tmp_path / "codes").rename(tmp_path / "alone")
    there = ["--work", tmp_path / "work"]
    for stage in ("scan", "deduplicate", "encode", "join"):
        for task in (7, 8, 9) if stage in ("scan", "encode") else (7,):
            for name, value in (("ID", task), ("MIN", 7), ("COUNT", 3)):
                monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
            assert command(*arguments, *there, "--stage", stage).code == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "codes").iterdir()} == alone


def test_images_with_the_real_tokenizers(command, world, tmp_path):
    import tarfile

    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for i in range(4):
            for extension, data in digit_sample(i).items():
                header = tarfile.TarInfo(f"{i}.{extension}")
                header.size = len(data)
                tar.addfile(header, io.BytesIO(data))
    out = ["--out", tmp_path / "codes", "--tokenizers", world.data / "tokenizers"]
    done = command(
        "data", "prepare", tmp_path / "a.tar", "--kind", "image-text", *out, "--set", "filters.min_side_pixels=4"
    )
    assert (done.code, done.err) == (0, "")
    assert read_manifest(tmp_path / "codes").num_codes("image") > 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--kind", "video"], "--kind video"),
        (["--stage", "sort"], "--stage sort"),
        (["--part", 1], "--part and --num-parts"),
        (["--part", 2, "--num-parts", 2, "--stage", "scan"], "--part 2 of --num-parts 2"),
        (["--processes", 0], "--processes 0"),
        (["--max-damaged", -1], "--max-damaged -1"),
        (["--near-duplicates", 3], "near_duplicates"),
        (["--set", "filters.min_letters=1"], "did you mean min_letter_share?"),
    ],
)
def test_wrong_options(assert_refused, arguments, options, says):
    assert_refused(*arguments, *options, says=says)


def test_a_wrong_text_field_names_the_option(command, arguments):
    done = command(*arguments, "--text-field", "text")
    assert done.code == 2
    assert "no text field" in done.err and done.err.count("\n") == 1


def test_missing_tokenizers_are_named_before_anything_is_done(command, arguments, tmp_path):
    done = command(*arguments, "--tokenizers", tmp_path / "none")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert str(tmp_path / "none") in done.err
    assert "scan" not in done.out and not (tmp_path / "codes.work").exists()


@pytest.mark.parametrize("variables", [{"ID": "x", "COUNT": "2"}, {"ID": "1"}])
def test_damaged_variables_of_an_array(assert_refused, arguments, monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    assert_refused(*arguments, "--stage", "scan", says="SLURM_ARRAY_TASK_ID")


def shown(monkeypatch, **options):
    """What a stage prints that is halfway after 20 s."""
    monkeypatch.setattr(preparation.time, "monotonic", iter([0.0, 20.0, 40.0]).__next__)
    stream = io.StringIO()
    display = preparation.PreparationDisplay(Console(file=stream, width=200, **options))
    with display.stage("encode", 4, 1000):
        counts = Counts(num_parts=2, num_samples=60, num_bytes=500, num_tokens=9000)
        counts.left_out["silence"] = 3
        display.advance(counts)
    return stream.getvalue()


def test_lines_where_there_is_no_terminal(monkeypatch):
    assert shown(monkeypatch).splitlines() == [
        "encode: 2/4 parts, 60 samples, 9,000 tokens; left out: 3 silence; 3 samples/s, 450 tokens/s; 20.0 s left",
        "encode: done after 40.0 s, 60 samples, 9,000 tokens; left out: 3 silence",
    ]
