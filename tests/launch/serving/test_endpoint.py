"""The endpoint of `triptych serve` over HTTP: what it answers, what it refuses, and how it ends."""

import base64
import json
import socket
import time
from contextlib import contextmanager

import pytest
from served import Server, as_base64
from tiny_world import TASKS, digit_sample, speech_sample

pytest_plugins = ["command_fixtures"]

LONG = {"task": "t2i", "prompt": "five", "num": 1000}  # about half a minute


@pytest.fixture(scope="module")
def server(trained):
    limits = (
        "body_bytes=200000",
        "prompt_characters=200",
        "pixels=4096",
        "audio_seconds=1",
        "waiting=1",
        "samples=1000",
    )
    with Server(trained, *(part for limit in limits for part in ("--limit", limit))) as started:
        yield started


def request_of(task):
    if task in ("i2t", "s2t"):
        content = digit_sample(3)["png"] if task == "i2t" else speech_sample(3)["flac"]
        return {"task": task, "file": as_base64(content)}
    return {"task": task, "prompt": "three"}


@contextmanager
def asking_for_long(server):
    """A request that is under way until the context ends, and then nobody listens to."""
    body = json.dumps(LONG).encode()
    head = "POST /v1/generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        yield


def wait_until_open(server, number):
    end = time.monotonic() + 30
    while server.get("/v1/health").document["open"] != number:
        assert time.monotonic() < end, server.get("/v1/health").document
        time.sleep(0.02)


@pytest.mark.parametrize("task", TASKS)
def test_each_task_is_answered(server, task):
    kind = {"t2i": "image/png", "t2s": "audio/wav"}.get(task, "text/plain")
    answer = server.generate({**request_of(task), "num": 2})
    assert answer.status == 200, answer.body
    assert [sample["content_type"] for sample in answer.document["samples"]] == [kind] * 2


@pytest.mark.parametrize(("task", "ending"), [("t2i", "png"), ("text", "txt")])
def test_a_seed_gives_what_the_command_sample_gives(server, command, trained, tmp_path, task, ending):
    arguments = ("--task", task, "--prompt", "three", "--seed", 7, "--num", 2, "--out", tmp_path / "out")
    assert command("sample", trained, *arguments).code == 0
    written = [(tmp_path / "out" / f"{task}-000-{i:03d}.{ending}").read_bytes() for i in range(2)]
    samples = server.generate({**request_of(task), "seed": 7, "num": 2}).document["samples"]
    if task == "text":
        assert [sample["text"] for sample in samples] == [text.decode().removesuffix("\n") for text in written]
    else:
        assert [base64.b64decode(sample["base64"]) for sample in samples] == written


def test_what_is_given_around_a_hole_stays(server):
    request = {"task": "text", "infill": {"text": "The list [[3]] and one more."}, "sampling": {"num_steps": 3}}
    (sample,) = server.generate(request).document["samples"]
    assert sample["text"].startswith("The list")
    assert sample["text"].endswith("and one more.")


@pytest.mark.parametrize(
    ("request_", "status", "says"),
    [
        ({"task": "t2i", "prompt": "x" * 201}, 413, "more than 200"),
        ({"task": "t2i", "prompt": "x" * 200_001}, 413, "larger than 200000 bytes"),
        ({"task": "t2i", "prompt": "five", "num": 1001}, 422, "outside 1..1000"),
        ({"task": "t2i", "prompt": "five", "sampling": {"num_steps": 257}}, 422, "more than 256"),
        ({"task": "t2i", "prompt": " "}, 422, "prompt is empty"),
        ({"task": "i2t", "file": "?"}, 422, "no base64"),
        ({"task": "i2t", "file": as_base64(b"nothing")}, 422, "PNG"),
        ({"task": "t2i", "prompt": "five", "colour": 1}, 422, "colour"),
        ({"task": "t2i", "prompt": "five", "seed": -1}, 422, "seed -1"),
    ],
)
def test_what_is_too_large_or_makes_no_sense_is_refused(server, request_, status, says):
    answer = server.generate(request_)
    assert answer.status == status
    assert says in answer.error


def test_a_body_that_is_no_json_is_refused(server):
    assert server.generate(data=b"{").status == 400


def test_a_request_by_a_foreign_name_is_refused(server):
    assert server.generate(request_of("t2i"), Host="example.org").status == 403


def test_raw_content_of_another_type_is_refused(server):
    assert server.generate(request_of("t2i"), Accept="audio/wav").status == 406


def test_what_is_not_done_in_time_is_given_up(server):
    answer = server.generate({**LONG, "timeout_seconds": 0.2})
    assert answer.status == 504
    wait_until_open(server, 0)


def test_a_request_whose_client_went_away_is_given_up(server):
    with asking_for_long(server):
        wait_until_open(server, 1)
    begun = time.monotonic()
    wait_until_open(server, 0)
    assert time.monotonic() - begun < 5


def test_more_requests_than_may_wait_are_turned_away(server):
    with asking_for_long(server), asking_for_long(server):
        wait_until_open(server, 2)
        answer = server.generate(request_of("t2i"))
    wait_until_open(server, 0)
    assert (answer.status, int(answer.headers["Retry-After"]) > 0) == (503, True)


@pytest.mark.slow
def test_a_stopped_server_ends_without_complaint(trained):
    with Server(trained) as server:
        code, _, err = server.stop()
    assert (code, err) == (0, "")


def test_without_its_library_one_line_says_what_to_install(command, trained, monkeypatch):
    monkeypatch.setattr("triptych.launch.serving.web.process.find_spec", lambda name: None)
    done = command("serve", trained, "--port", 0)
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert "pip install 'triptych[serve]'" in done.err
