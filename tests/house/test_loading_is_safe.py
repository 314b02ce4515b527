"""Nothing that is loaded executes code. Ruff refuses pickle, eval and yaml.load; these loaders it does not know."""

import ast

import pytest
from project_sources import Source, dotted, tracked_sources


def unsafe_loads(source):
    """`file:line call` of torch.load without weights_only=True, of allow_pickle=True, and of joblib.load."""
    for node in source.walk(ast.Call):
        name = dotted(node.func)
        given = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
        unsafe_torch = name == "torch.load" and given.get("weights_only") is not True
        if unsafe_torch or name == "joblib.load" or given.get("allow_pickle", False) is not False:
            yield f"{source.at(node)} {name}"


def test_every_load_is_safe():
    assert [line for source in tracked_sources() for line in unsafe_loads(source)] == []


@pytest.mark.parametrize(
    "text",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "np.load(path, allow_pickle=True)",
        "joblib.load(path)",
    ],
)
def test_an_unsafe_load_is_found(text):
    assert len(list(unsafe_loads(Source.planted("trainer/planted.py", text)))) == 1


def test_safe_loads_pass():
    text = "torch.load(path, weights_only=True)\nnp.load(path, allow_pickle=False)\nnp.load(path)\njson.load(file)"
    assert list(unsafe_loads(Source.planted("trainer/planted.py", text))) == []
