"""What a server does to those who send slowly, hold connections, or ask from where they should not."""

import io
import socket
import time
from contextlib import ExitStack

import numpy as np
import pytest
import soundfile
from PIL import Image
from served import Server, as_base64
from tiny_world import speech_sample

pytest_plugins = ["command_fixtures"]

CONNECTIONS = 6
JSON = b"POST /v1/generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def server(trained):
    limits = ("request_seconds=1.5", f"connections={CONNECTIONS}", "pixels=4096", "audio_seconds=1")
    with Server(trained, *(part for limit in limits for part in ("--limit", limit))) as started:
        yield started


def connected(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def seconds_until_closed(connection):
    """How long the other side keeps it, and what it says first."""
    begun, said = time.monotonic(), b""
    while part := connection.recv(65536):
        said += part
    return time.monotonic() - begun, said


def as_file(kind):
    buffer = io.BytesIO()
    if kind == "png":
        Image.fromarray(np.zeros((65, 65), np.uint8)).save(buffer, "PNG")
    else:
        soundfile.write(buffer, np.zeros(16_001, np.float32), 16_000, format="WAV")
    return as_base64(buffer.getvalue())


@pytest.mark.parametrize(
    ("task", "kind", "says"), [("i2t", "png", "65 x 65 pixels, more than 4096"), ("s2t", "wav", "longer than 1.0 s")]
)
def test_a_file_beyond_its_limit_is_refused(server, task, kind, says):
    answer = server.generate({"task": task, "file": as_file(kind)})
    assert (answer.status, says in answer.error) == (413, True), answer.error


def test_a_stretch_that_ends_beyond_the_recording_ends_with_it(server):
    infill = {"file": as_base64(speech_sample(3)["flac"]), "seconds": [[0, 1e308]]}
    answer = server.generate({"task": "t2s", "prompt": "three", "infill": infill})
    assert answer.status == 200, answer.body


def test_a_body_that_trickles_is_refused(server):
    with connected(server) as connection:
        connection.sendall(JSON + b"Content-Length: 100\r\n\r\n")
        begun = time.monotonic()
        while time.monotonic() - begun < 1.8:
            connection.sendall(b" ")
            time.sleep(0.1)
        connection.sendall(b" " * 60)
        connection.sendall(b" " * 22)
        connection.settimeout(10)
        _, said = seconds_until_closed(connection)
    assert said.startswith(b"HTTP/1.1 408"), said


@pytest.mark.parametrize("head", [b"", b"GET /v1/health HTTP/1.1\r\nHost: loc"], ids=["nothing", "half a head"])
def test_connections_that_ask_nothing_do_not_keep_others_out(server, head):
    with ExitStack() as stack:
        held = [stack.enter_context(connected(server)) for _ in range(CONNECTIONS)]
        for connection in held:
            connection.sendall(head)
        refused = server.get("/v1/health")
        for connection in held:
            assert seconds_until_closed(connection)[0] < 10
        assert (refused.status, server.get("/v1/health").status) == (503, 200)


@pytest.mark.parametrize("origin", ["https://example.org", "null", "http://localhost.example.org"])
def test_a_foreign_page_is_turned_away(server, origin):
    """A browser lets any page post to this machine's own address; what it then brings along is where it is from."""
    assert server.generate({"task": "t2i", "prompt": "five"}, Origin=origin).status == 403


def test_the_own_page_is_let_in(server):
    assert server.generate({"task": "t2i", "prompt": "five"}, Origin=server.url).status == 200


@pytest.mark.slow
def test_a_server_at_another_loopback_address_answers_there(trained):
    """Debian gives a machine's own name 127.0.1.1."""
    with Server(trained, "--host", "127.0.1.1") as server:
        answer = server.get("/v1/health")
        _, _, err = server.stop()
    assert (answer.status, err) == (200, "")


@pytest.mark.slow
def test_a_server_for_others_says_that_it_has_no_password(trained):
    with Server(trained, "--host", "0.0.0.0") as server:
        answer = server.generate({"task": "t2i", "prompt": "five"}, Host="example.org")
        code, _, err = server.stop()
    assert (code, answer.status, len(err.splitlines())) == (0, 200, 1)
    assert "no password" in err
