import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from report_samples import SCORES, clip, full, image

from triptych.launch.report.data import DigitRow, JudgedImage, ReportData, SpokenCaption, TextSample
from triptych.launch.report.page import render
from triptych.launch.report.page.render import headline_sample
from triptych.trainer.evaluation import Proportion, Scores

VOID = {"meta", "img", "br"}


class Reader(HTMLParser):
    """Collects tags, attributes and text, and whether every tag is closed in order."""

    def __init__(self, page: str):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts, self.errors = [], [], [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.errors.append(tag)

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def page():
    return render(full())


def ids(page: str) -> set[str]:
    return {value for name, value in Reader(page).attributes if name == "id"}


def test_every_tag_is_closed(page):
    reader = Reader(page)
    assert (reader.errors, reader.open) == ([], [])


def test_every_part_is_there(page):
    parts = "numbers images speech reading unmasking text infilling training table run notes"
    assert set(parts.split()) <= ids(page)


def test_every_link_leads_somewhere(page):
    links = {value.removeprefix("#") for name, value in Reader(page).attributes if name == "href"}
    assert links <= ids(page)


def test_nothing_is_fetched(page):
    reader = Reader(page)
    assert not {"script", "link", "iframe", "object", "base"} & set(reader.tags)
    sources = [value for name, value in reader.attributes if name in ("src", "srcset", "data", "poster")]
    assert sources
    assert all(value.startswith("data:") for value in sources)
    assert not re.search(r"https?:|@import|url\(", page)


def test_the_browser_is_told_to_fetch_nothing(page):
    assert "default-src 'none'" in page


@pytest.mark.parametrize(
    "words", ["<script>alert(1)</script>", '"><img src=x onerror=y>', "{{ 7*7 }} {% if %}", "&lt;b&gt;"]
)
def test_text_is_never_markup(words):
    page = render(full(words=words))
    plain = render(full(words="plain"))
    assert Reader(page).tags == Reader(plain).tags
    assert words in "".join(Reader(page).texts)


def test_no_event_handler_gets_in():
    page = render(full(words='" onload="x()" style="'))
    assert not [name for name, _ in Reader(page).attributes if name.startswith("on")]


def test_what_is_absent_leaves_no_trace():
    assert ids(render(ReportData(title="nothing", scores=Scores()))) == {"top"}


def test_a_part_that_is_there_comes_alone():
    data = ReportData(title="text only", scores=Scores(), texts=(TextSample(text="once"),))
    assert ids(render(data)) == {"top", "text"}


def test_right_and_wrong_are_marked(page):
    images = page[page.index('id="images"') : page.index('id="speech"')]
    assert images.count("✓") == 1
    assert images.count("✗ ?") == 1


def test_the_numbers_are_those_of_the_scores(page):
    low, high = SCORES.to_json()["confidence"]["t2i_accuracy"]["interval_95"]
    text = re.sub(r"[ \n]+", " ", "".join(Reader(page).texts))
    assert "93.5\u202f%" in text
    assert f"{100 * low:.1f}\u202f% – {100 * high:.1f}\u202f%" in text
    assert "187 of 200" in text
    assert "85\u202f% reached" in text


def test_a_missed_aim_is_said():
    data = full()
    missed = replace(SCORES, t2i_accuracy=Proportion(successes=100, trials=200))
    assert ">missed<" in render(replace(data, scores=missed))


def test_the_judges_limits_are_stated(page):
    assert "right on 98.2\u202f% of 397 real held-out images" in page


def test_no_not_a_number_is_printed(page):
    assert not re.search(r"\bnan\b|\binf\b", "".join(Reader(page).texts), re.IGNORECASE)
    assert "nan" not in "".join(value for name, value in Reader(page).attributes if name in ("d", "cx", "cy", "x", "y"))


def test_masked_cells_cover_what_is_masked():
    page = render(full())
    strip = page[page.index('id="unmasking"') : page.index('id="text"')]
    assert (
        strip.count('class="masked"') == 2 + 3
    )  # half of four codes, then two of two frames at step 0 and one at step 1
    assert "<mark>" in strip


def row(digit, *verdicts):
    return DigitRow(
        caption=str(digit),
        digit=digit,
        generated=tuple(JudgedImage(image=image(n), verdict=v) for n, v in enumerate(verdicts)),
    )


def spoken(digit, verdict):
    return SpokenCaption(caption=str(digit), digit=digit, generated=clip(0), verdict=verdict)


def test_the_head_shows_a_sample_that_both_judges_accept():
    data = ReportData(title="", scores=Scores(), digits=(row(1, 1), row(2, 0, 2)), speech=(spoken(1, 7), spoken(2, 2)))
    sample = headline_sample(data)
    assert sample is not None
    assert (sample.row.digit, sample.judged.verdict, sample.spoken.verdict) == (2, 2, 2)


def test_the_head_does_not_claim_what_no_sample_reached():
    data = ReportData(title="", scores=Scores(), digits=(row(1, 3),), speech=(spoken(1, 1),))
    sample = headline_sample(data)
    assert sample is not None
    assert "accept" not in sample.note


def test_colour_images_are_shown_as_they_are():
    colour = DigitRow(caption="red", digit=1, generated=(JudgedImage(image=np.zeros((8, 8, 3), np.uint8), verdict=1),))
    page = render(ReportData(title="", scores=Scores(), digits=(colour,)))
    assert 'class="px grey"' not in page
    assert 'class="px"' in page
