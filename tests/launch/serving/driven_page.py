"""Drives the page of a server in a headless Chromium, each tab once: `python driven_page.py RUN_DIR OUT` does so with a
server of its own and leaves screenshots.
"""

import io
import re
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

WAIT_MS = 120_000
TABS = ("Image", "Speech", "Text", "Caption", "Transcript", "Repaint", "Fill in text", "Patch speech")


@contextmanager
def open_page(url, width=1280, height=900):
    """A page that has loaded; its `asked` are the URLs that it asked for, its `wrong` what the console said."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield new_page(browser, url, width, height)
        browser.close()


def new_page(browser, url, width=1280, height=900):
    """Another one in a browser that runs: playwright takes one of them at a time."""
    page = browser.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(WAIT_MS)
    driven = DrivenPage(page)
    page.goto(url)
    page.get_by_role("button", name="Make", exact=True).first.wait_for()
    return driven


class DrivenPage:
    """What a person does. Each method returns once its result is shown."""

    def __init__(self, page):
        self.page, self.asked, self.wrong = page, [], []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", lambda message: self.wrong.append(message.text) if message.type == "error" else None)

    @property
    def panel(self):
        return self.page.locator("[role=tabpanel]:visible").last

    def open(self, name):
        """A tab, from the menu where the window is too narrow for all."""
        tab = self.page.get_by_role("tab", name=name, exact=True)
        if not tab.first.is_visible():
            self.page.locator(".overflow-menu > button").click()
            self.page.locator(".overflow-dropdown button", has_text=name).last.click()
        else:
            tab.first.click()
        self.panel.wait_for()
        return self.panel

    def press(self, name):
        """A button, and wait for its end."""
        self.panel.get_by_role("button", name=name, exact=True).click()
        self.done()

    def done(self):
        self.panel.locator(".status").get_by_text(re.compile(r"\d+ in [\d.]+ s")).wait_for()

    def made(self, kind):
        """Locator of what was made: p, img or audio."""
        return self.panel.locator(f".made {kind}")

    def bring(self, path):
        self.panel.locator("input[type=file]").first.set_input_files(path)
        self.page.wait_for_timeout(1500)

    def paint(self):
        """A stroke over the middle of the editor's picture."""
        self.panel.get_by_role("button", name="Draw a picture to start from").click()
        self.page.wait_for_timeout(2500)
        box = self.panel.locator("canvas").first.bounding_box()
        left, top = box["x"] + box["width"] * 0.45, box["y"] + box["height"] * 0.5
        self.page.mouse.move(left, top)
        self.page.mouse.down()
        for step in range(8):
            self.page.mouse.move(left + 8 * step, top + 4 * (step % 2), steps=3)
        self.page.mouse.up()
        self.page.wait_for_timeout(1000)

    def shoot(self, path):
        self.page.screenshot(path=path, full_page=True)


def write_inputs(folder, pixels=64):
    """A picture and a recording to bring along."""
    rows, columns = np.ogrid[:pixels, :pixels]
    ring = np.abs(np.hypot(rows - pixels / 2, columns - pixels / 2) - pixels / 3) < pixels / 10
    Image.fromarray((ring * 255).astype(np.uint8)).save(folder / "ring.png")
    times = np.arange(4800) / 16_000
    buffer = io.BytesIO()
    soundfile.write(buffer, 0.4 * np.sin(2 * np.pi * 600 * times), 16_000, format="WAV")
    (folder / "tone.wav").write_bytes(buffer.getvalue())
    return folder / "ring.png", folder / "tone.wav"


def use(driven, name, picture, recording):
    """One tab, once; the locator of what came out."""
    driven.open(name)
    if name in ("Caption", "Transcript", "Patch speech"):
        driven.bring(picture if name == "Caption" else recording)
    if name == "Repaint":
        driven.paint()
    buttons = {
        "Caption": "Describe", "Transcript": "Write down", "Repaint": "Repaint", "Fill in text": "Fill in",
        "Patch speech": "Patch",
    }  # fmt: skip
    driven.press(buttons.get(name, "Make"))
    kinds = {"Image": "img", "Repaint": "img", "Speech": "audio", "Patch speech": "audio"}
    return driven.made(kinds.get(name, "p"))


def main(run_dir, out):
    from served import Server

    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        inputs = write_inputs(Path(folder))
        with Server(run_dir) as server:
            for label, width in (("wide", 1280), ("narrow", 400)):
                with open_page(server.url, width) as driven:
                    for name in TABS:
                        found = use(driven, name, *inputs).count()
                        driven.shoot(out / f"{label}-{name.replace(' ', '-').lower()}.png")
                        print(label, name, found, flush=True)
                    print(driven.wrong, {url.split("/")[2] for url in driven.asked if url.startswith("http")})


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    main(*sys.argv[1:])
