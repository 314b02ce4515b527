"""Every tab of the page of `triptych serve`, used once in a headless Chromium."""

import shutil
import time
from importlib.util import find_spec

import pytest
from driven_page import TABS, new_page, open_page, use, write_inputs
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


@pytest.mark.parametrize("every_step", [True, False])
def test_stop_ends_what_runs_and_the_next_request_begins(driven, trained, every_step):
    """Each would take many minutes."""
    with Server(trained, "--limit", "samples=5000", "--limit", "steps=50000") as server:
        opened = new_page(driven.page.context.browser, server.url)
        panel = opened.open("Image")
        panel.get_by_text("Sampler").click()
        panel.get_by_label("Show every step").set_checked(every_step)
        for label, number in (("How many", "5000"), ("Steps", "50000")):
            panel.get_by_label(f"number input for {label}", exact=True).fill(number)
        status = panel.locator(".status")
        for _ in range(2):
            panel.get_by_role("button", name="Make", exact=True).click()
            status.get_by_text("sampling").wait_for(timeout=20_000)
            panel.get_by_role("button", name="Stop", exact=True).click()
            status.get_by_text("stopped").wait_for(timeout=20_000)
            assert comes_to(server, 0)
            opened.page.wait_for_timeout(500)  # for what was on its way
            assert status.last.inner_text() == "stopped"
        opened.page.close()


def comes_to(server, num_open, seconds=20):
    """Whether so many requests wait or run, in time."""
    end = time.monotonic() + seconds
    while server.get("/v1/health").document["open"] != num_open and time.monotonic() < end:
        time.sleep(0.05)
    return server.get("/v1/health").document["open"] == num_open
