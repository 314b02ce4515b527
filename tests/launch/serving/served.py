"""A server as a process of its own, and how to ask it."""

import base64
import json
import signal
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from tiny_world import start_command

TIMEOUT_SECONDS = 120


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Any
    body: bytes

    @property
    def document(self):
        return json.loads(self.body)

    @property
    def error(self):
        """The one sentence of a refusal."""
        document = self.document
        assert list(document) == ["error"] and "\n" not in document["error"], document
        return document["error"]


class Server:
    """`triptych serve RUN_DIR` at a free port, until the context ends."""

    def __init__(self, run_dir, *arguments):
        self._arguments = ("serve", run_dir, "--port", 0, *arguments)

    def __enter__(self):
        self.process = start_command(self._arguments, None)
        line = self.process.stdout.readline()
        assert "endpoint " in line, self.process.communicate(timeout=TIMEOUT_SECONDS)
        self.url = line.partition("page ")[2].partition("/ ,")[0]
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=TIMEOUT_SECONDS)

    @property
    def port(self):
        return int(self.url.rpartition(":")[2])

    def stop(self, number=signal.SIGTERM):
        """Exit code, what was printed, what was complained of."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=TIMEOUT_SECONDS)
        return self.process.returncode, out, err

    def get(self, path):
        return self._ask(urllib.request.Request(self.url + path))

    def generate(self, document=None, *, data=None, **headers):
        """POST of a document, or of bytes that are none."""
        body = json.dumps(document).encode() if data is None else data
        given = {"Content-Type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
        return self._ask(urllib.request.Request(self.url + "/v1/generate", body, given))

    def _ask(self, request):
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.headers, error.read())


def as_base64(content):
    return base64.b64encode(content).decode()
