"""Which points a command line asks for, and what they are called."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.configs.registry import named_run
from triptych.configs.tree import with_settings
from triptych.launch.sweep.grid import Grid, Variant, parse_grid, parse_variant, sweep_points

RATE = "fit.optimizer.peak_learning_rate"


def points(*grids, variants=(), settings=()):
    return sweep_points(
        "trimodal_demo",
        settings=list(settings),
        variants=[parse_variant(text) for text in variants],
        grids=[parse_grid(text) for text in grids],
    )


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ("a=1,2,3", ("1", "2", "3")),
        ("a=1e-3, 2e-3", ("1e-3", "2e-3")),
        ("a=[0.9, 0.95],[0.9, 0.98]", ("[0.9, 0.95]", "[0.9, 0.98]")),
        ("a={kind: cosine, b: [1, 2]},linear", ("{kind: cosine, b: [1, 2]}", "linear")),
        ('a="x,y",z', ('"x,y"', "z")),
        ("a=x=1,y=2", ("x=1", "y=2")),
        ("a=it's,so", ("it's", "so")),
    ],
)
def test_values_are_split_at_commas_outside_brackets_and_quotes(text, texts):
    assert parse_grid(text) == Grid(path="a", texts=texts)


@given(st.lists(st.lists(st.integers(0, 9), min_size=2, max_size=3), min_size=1, max_size=4, unique_by=str))
def test_lists_are_split_as_they_were_joined(lists):
    assert list(parse_grid("a=" + ",".join(map(str, lists))).texts) == [str(each) for each in lists]


@pytest.mark.parametrize("text", ["a", "a=", "=1", "a=1,,2", "a=1,", "a=1,1", "a=1e-3,0.001"])
def test_a_grid_without_values_or_with_one_twice_is_refused(text):
    with pytest.raises(ValueError, match=r"--grid .*; (write|give)"):
        parse_grid(text)


def test_a_variant_is_a_name_and_settings():
    parsed = parse_variant("small: model.hidden_size=32  fit.learning_rate={kind: x, power: 2}")
    assert parsed == Variant(name="small", settings=("model.hidden_size=32", "fit.learning_rate={kind: x, power: 2}"))


def test_words_of_a_variant_are_quoted_as_in_yaml():
    assert parse_variant("a: b='c d' e=f").settings == ("b='c d'", "e=f")


def test_a_variant_may_change_nothing():
    assert parse_variant("base:") == Variant(name="base")


@pytest.mark.parametrize("text", ["small", ": a=1", "a b: c=1", "../x: c=1", "a,b: c=1", "small: c", "small: c=1 d"])
def test_what_is_no_variant_is_refused(text):
    with pytest.raises(ValueError, match=r"--variant .*; "):
        parse_variant(text)


def test_points_are_the_product_with_the_last_grid_fastest():
    names = [point.name for point in points(f"{RATE}=1e-3,2e-3", "fit.seed=0,1", variants=["a:", "b:"])]
    assert names == [
        f"{variant},peak_learning_rate={rate},seed={seed}"
        for variant in ("a", "b")
        for rate in ("0.001", "0.002")
        for seed in (0, 1)
    ]


def test_the_settings_of_a_point_come_in_order():
    (point,) = points("fit.seed=3", variants=["a: fit.seed=2 x=1"], settings=["fit.seed=1"])
    assert point.settings == ("fit.seed=1", "fit.seed=2", "x=1", "fit.seed=3")


def test_a_value_reaches_the_run():
    (point,) = points("fit.optimizer.betas=[0.8, 0.9]")
    assert with_settings(named_run("trimodal_demo"), point.settings).fit.optimizer.betas == (0.8, 0.9)


def test_a_group_is_the_points_name_without_its_seed():
    groups = {point.name: point.group for point in points("fit.seed=0", f"{RATE}=1e-3", variants=["a:"])}
    assert groups == {"a,seed=0,peak_learning_rate=0.001": "a,peak_learning_rate=0.001"}


def test_what_only_seeds_tell_apart_is_called_by_the_run():
    assert [(point.name, point.group) for point in points("fit.seed=0")] == [("seed=0", "trimodal_demo")]


def test_no_grid_is_one_point():
    assert [(point.name, point.group) for point in points()] == [("trimodal_demo", "trimodal_demo")]


def test_paths_with_one_end_are_told_apart():
    (point,) = points("data.sources.t2i.weight=0.1", "data.sources.i2t.weight=0.2", "fit.seed=0")
    assert point.name == "t2i.weight=0.1,i2t.weight=0.2,seed=0"


@pytest.mark.parametrize(
    ("value", "shown"), [("[0.9, 0.95]", "0.9_0.95"), ("a/b", "a_b"), ("2e5", "2e5"), ("../..", ".._.."), ("'é'", "_")]
)
def test_names_are_safe_for_folders(value, shown):
    assert points(f"a={value}")[0].name == f"a={shown}"


def test_the_label_without_a_path_leaves_the_seed_out_too():
    (point,) = points(f"{RATE}=1e-3", "fit.seed=0", "fit.logical_batch=8", variants=["a:"])
    assert point.label_without(RATE) == "a,logical_batch=8"


def test_the_label_without_the_only_path_is_empty():
    assert points(f"{RATE}=1e-3", "fit.seed=0")[0].label_without(RATE) == ""


def test_the_label_of_the_only_point_is_empty():
    assert points()[0].label_without(RATE) == ""


@pytest.mark.parametrize(
    ("grids", "variants", "says"),
    [
        (["a=1", "a=2"], [], "--grid a is given 2 times"),
        ([], ["a:", "a: b=1"], "--variant a is given 2 times"),
        (["a=x/y,x y"], [], "2 points would be called a=x_y"),
        ([f"a={'x' * 250}"], [], "too long"),
    ],
)
def test_what_would_share_a_name_is_refused(grids, variants, says):
    with pytest.raises(ValueError, match=says):
        points(*grids, variants=variants)
