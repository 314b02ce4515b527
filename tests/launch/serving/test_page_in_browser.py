"""Every tab of the page of `triptych serve`, used once in a headless Chromium."""

import shutil
from importlib.util import find_spec

import pytest
from driven_page import TABS, open_page, use, write_inputs
from served import Server

pytest_plugins = ["command_fixtures"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("playwright") is None or shutil.which("chromium") is None, reason="needs playwright and chromium"
    ),
]


@pytest.fixture(scope="module")
def driven(trained):
    with Server(trained) as server, open_page(server.url) as page:
        yield page


@pytest.mark.parametrize("name", TABS)
def test_each_tab_makes_something(driven, tmp_path, name):
    assert use(driven, name, *write_inputs(tmp_path, pixels=8)).count() > 0


def test_nothing_is_asked_of_other_hosts_and_the_console_is_quiet(driven):
    driven.open("Image")
    driven.press("Make")
    assert {url.split("/")[2].partition(":")[0] for url in driven.asked if url.startswith("http")} == {"127.0.0.1"}
    assert driven.wrong == []


def test_the_slider_goes_back_to_a_step_that_hides_more(driven):
    driven.open("Image")
    driven.press("Make")
    count = driven.panel.locator(".count")
    assert ": 0 of " in count.inner_text()
    number = driven.panel.get_by_label("number input for Step", exact=True)
    number.fill("1")
    number.press("Enter")
    count.get_by_text("step 1 of").wait_for()
    assert ": 0 of " not in count.inner_text()
