import io
import math
import time

import pytest
from rich.console import Console

from triptych.launch.display import Display, DisplayConfig, Speed, sparkline
from triptych.trainer.metrics import StepRecord

METRICS = {"text": 4.125, "image": 2.5}


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def make(*, terminal: bool = False, rank: int = 0, **config):
    clock, file = Clock(), io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=100, highlight=False)
    return Display(DisplayConfig(**config), rank=rank, console=console, clock=clock), file, clock


def advance(display, tokens, **speed):
    display.update(tokens=tokens, total_tokens=1000, metrics=METRICS, speed=Speed(tokens_per_second=100, **speed))


def interrupt(display):
    with display, display.stage("training"):
        advance(display, 500)
        raise KeyboardInterrupt


def test_lines_come_every_few_seconds_and_at_the_end():
    display, file, clock = make(seconds_between_lines=10)
    with display, display.stage("training"):
        for second in range(31):
            clock.now = float(second)
            advance(display, 10 * second)
        advance(display, 1000)
    shares = [line.split("%")[0].strip() for line in file.getvalue().splitlines() if "%" in line]
    assert shares == ["0.0", "10.0", "20.0", "30.0", "100.0"]


def test_a_line_tells_losses_speed_and_time_left():
    display, file, _ = make()
    advance(display, 400)
    assert file.getvalue().strip() == (
        "40.0 %  400/1k tokens | text 4.125  image 2.500 | 100 tokens/s | MFU unknown | 6.0 s left"
    )


def test_a_log_gets_no_control_codes():
    display, file, _ = make()
    with display, display.stage("data"):
        display.message("wrote \x1b[31m100 [red]images[/]")
        advance(display, 1000)
    assert "\x1b" not in file.getvalue()
    assert "[red]images[/]" in file.getvalue()


def test_utilization_is_a_share_of_the_peak_where_that_is_known():
    display, file, _ = make()
    advance(display, 0, flops_per_second=2e14, peak_flops_per_second=1e15)
    assert "MFU 20.0 %" in file.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_other_ranks_say_nothing(terminal):
    display, file, _ = make(rank=1, terminal=terminal)
    with display, display.stage("training"):
        advance(display, 500)
        display.message("hello")
    assert file.getvalue() == ""


def test_stages_are_counted():
    display, file, _ = make(num_stages=2)
    with display:
        for title in ("data", "training"):
            with display.stage(title):
                pass
    assert [line.split(":")[0] for line in file.getvalue().splitlines() if "done" in line] == [
        "1/2 data",
        "2/2 training",
    ]


@pytest.mark.parametrize("terminal", [False, True])
def test_an_interrupted_stage_is_not_called_done(terminal):
    display, file, _ = make(terminal=terminal)
    with pytest.raises(KeyboardInterrupt):
        interrupt(display)
    assert ("✗" if terminal else "stopped") in file.getvalue()
    assert "done" not in file.getvalue()


def test_an_interrupt_gives_the_cursor_back():
    display, file, _ = make(terminal=True)
    with pytest.raises(KeyboardInterrupt):
        interrupt(display)
    assert file.getvalue().rindex("\x1b[?25h") > file.getvalue().rindex("\x1b[?25l")


def test_a_terminal_shows_the_bar_and_a_curve_per_loss():
    display, file, _ = make(terminal=True, refreshes_per_second=100)
    with display, display.stage("training"):
        advance(display, 250)
        time.sleep(0.1)  # ten refreshes
    assert "25.0 %" in file.getvalue()
    assert "image" in file.getvalue()


def test_the_reporter_averages_the_last_steps():
    display, file, _ = make()
    report = display.reporter(window_steps=2)
    for step, (nats, seconds) in enumerate([(9.0, 10.0), (4.0, 1.0), (2.0, 3.0)], start=1):
        report(
            StepRecord(
                step=step,
                tokens=step * 100,
                total_tokens=300,
                batch_tokens=100,
                batch=4,
                kappa=1.0,
                seconds=seconds,
                learning_rate=0.1,
                gradient_norm=1.0,
                metrics={"nelbo/text": nats, "accuracy/text": 0.5},
            )
        )
    assert "text 3.000 | 50 tokens/s" in file.getvalue().splitlines()[-1]


def test_a_small_curve_spans_its_range():
    assert sparkline([0.0, math.nan, 7.0, 3.5]) == "▁ █▅"


@pytest.mark.parametrize("values", [[], [math.inf], [2.0, 2.0]])
def test_a_small_curve_of_nothing_much_has_its_length(values):
    assert len(sparkline(values)) == len(values)
