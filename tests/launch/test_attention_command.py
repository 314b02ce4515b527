"""`triptych attention`: which backend computes a run's attention here, and why not another."""

import pytest
import torch

from triptych.configs.registry import RUNS, named_run
from triptych.configs.tree import with_settings
from triptych.launch.commands.training.attention import request_of
from triptych.models.attention.documents import PackedDocuments
from triptych.models.attention.registry.backends import REGISTRY
from triptych.models.attention.registry.registry import Registry
from triptych.models.attention.transformer_engine.environment import VARIABLES
from triptych.models.diffusion.inputs import DiffusionInputs
from triptych.models.trimodal.model import TrimodalTransformer
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement

pytest_plugins = ["command_fixtures"]

SIGMOID = ("--set", "model.attention.function=sigmoid")


@pytest.fixture(autouse=True)
def cpu_without_variables(monkeypatch):
    """A machine without an accelerator, on which none of the variables is set; tables as wide as they need."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("COLUMNS", "250")
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def rows(out):
    """First cell to the other cells of each row, of all tables."""
    lines = [[cell.strip() for cell in line.strip("│").split("│")] for line in out.splitlines() if "│" in line]
    return {cells[0]: cells[1:] for cells in lines}


def test_without_a_run_it_is_the_demos(command):
    done = command("attention")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("trimodal_demo: softmax attention on cpu\n")
    assert rows(done.out)["sdpa"] == ["yes", "yes", ""]
    assert rows(done.out)["varlen"] == ["no", "", "it runs on CUDA, and the tensors are on cpu"]


@pytest.mark.parametrize("run", RUNS)
def test_every_run_has_a_backend(command, run):
    for settings in ((), SIGMOID):
        done = command("attention", run, *settings)
        assert (done.code, done.err) == (0, "")
        assert sum(cells[:2] == ["yes", "yes"] for cells in rows(done.out).values()) == 1


def test_the_backends_of_sigmoid_say_why_not(command):
    pytest.importorskip("triton")
    told = rows(command("attention", *SIGMOID).out)
    assert told["blocked"] == ["yes", "yes", ""]
    for name in ("triton", "gluon"):
        assert told[name] == ["no", "", "it runs on CUDA, and the tensors are on cpu"]


def test_a_kernel_that_the_run_names_is_taken(command):
    told = rows(command("attention", *SIGMOID, "--set", "model.attention.kernel=blocked").out)
    assert told["blocked"] == ["yes", "yes", "the run asks for it"]


def test_a_kernel_that_cannot_run_is_an_error_after_the_table(command):
    done = command("attention", *SIGMOID, "--set", "model.attention.kernel=gluon")
    assert done.code == 2
    assert rows(done.out)["gluon"][:2] == ["no", ""]
    assert done.err.startswith("triptych: error: gluon cannot run this sigmoid attention: ")
    assert len(done.err.splitlines()) == 1


def test_explained_it_tells_what_is_asked_and_the_other_function(command):
    done = command("attention", "trimodal_3b", "--explain")
    told = rows(done.out)
    assert told["dtype"] == ["bfloat16"]
    assert (told["num_heads"], told["packed"]) == (["24"], ["True"])
    assert "with attention.function=sigmoid:" in done.out
    assert {"varlen", "sdpa", "triton", "blocked", "gluon"} <= told.keys()


def test_it_tells_the_variables_and_their_values(command, monkeypatch):
    monkeypatch.setenv("NVTE_SIGMOID_ATTN_BACKEND", "blocked")
    told = rows(command("attention").out)
    assert told["NVTE_SIGMOID_ATTN_BACKEND"][0] == "blocked"
    assert {name: told[name][1] for name in VARIABLES} == VARIABLES


def test_variables_that_are_not_set_are_told_where_all_is_explained(command):
    assert VARIABLES.keys().isdisjoint(rows(command("attention").out))
    assert VARIABLES.keys() <= rows(command("attention", "--explain").out).keys()


def test_an_unknown_run_is_refused(assert_refused):
    assert_refused("attention", "trimodal_dmo", says="did you mean trimodal_demo?")


def test_a_setting_that_does_not_exist_is_refused(assert_refused):
    assert_refused("attention", "--set", "model.attention.functoin=sigmoid", says="functoin")


def test_what_is_asked_follows_the_run():
    settings = ["model.attention.function=sigmoid", "model.attention.sigmoid=tanh", "fit.engine.precision=bf16"]
    request = request_of(with_settings(named_run("trimodal_demo"), settings))
    assert (request.function, request.sigmoid, request.dtype) == ("sigmoid", "tanh", torch.bfloat16)


def test_what_is_asked_follows_the_machine(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    request = request_of(named_run("trimodal_demo"))
    assert (request.device, request.capability) == ("cuda", (9, 0))


@pytest.mark.parametrize("settings", [["model.attention.function=sigmoid", "model.attention.kernel=blocked"], []])
def test_what_is_asked_is_what_the_layers_of_the_run_ask(settings, monkeypatch):
    asked = []

    def choose(request, name=None):
        asked.append((request, name))
        return Registry.choose(REGISTRY, request, name)

    monkeypatch.setattr(REGISTRY, "choose", choose)
    run = with_settings(named_run("trimodal_demo"), [*settings, "model.num_layers=1"])
    inputs = DiffusionInputs(
        tokens_BS=torch.zeros(2, 8, dtype=torch.long),
        rows={"text": torch.tensor([0])},
        padding_BS=None,
        documents=PackedDocuments(lengths_BD=torch.tensor([[3, 2], [8, 0]]), longest=8),
    )
    with process_groups(Placement()) as groups:
        model = TrimodalTransformer(run.model, groups.collection)
        model.initialise(seed=0)
        model(inputs)
    assert asked == [(request_of(run), "blocked" if settings else None)]
