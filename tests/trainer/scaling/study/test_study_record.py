"""What studies leave behind: figure and table, with all that it takes to make them again."""

import itertools

from triptych.trainer.scaling.study.record import label_ends, markdown_table, panels, provenance, write


def test_provenance_names_command_versions_and_hardware():
    text = provenance("sgd_ema", 3.2)
    assert all(
        part in text for part in ("-m triptych.trainer.scaling.study.sgd_ema", "torch 2.", "one thread of", "3 s")
    )


def test_a_table_in_markdown():
    assert markdown_table(("a", "b"), [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_figures_and_text_are_written_under_their_names(tmp_path):
    figure, (axes,) = panels(1, "Message")
    axes.plot([0, 1], [0, 1])
    write(tmp_path, "x", title="Title", paragraphs=["one", "two"], figures={"x": figure, "x_more": figure})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["toy_x.md", "toy_x.png", "toy_x_more.png"]
    assert (tmp_path / "toy_x.md").read_text() == "# Title\n\none\n\ntwo\n"


def test_labels_are_moved_apart():
    _, (axes,) = panels(1, "Message")
    axes.plot([0, 1], [0, 1])
    label_ends(axes, [(1, 0.5, "a", "k"), (1, 0.5, "b", "k"), (1, 0.51, "c", "k")], gap=0.1)
    heights = sorted(text.get_position()[1] for text in axes.texts)
    assert min(b - a for a, b in itertools.pairwise(heights)) > 0.099
