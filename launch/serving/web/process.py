"""A server as a process: its socket, its threads, and how it ends."""

import asyncio
import ipaddress
import logging
import os
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from triptych.launch.serving.service import Service
from triptych.launch.serving.web.gate import Gate
from triptych.launch.signals import stop_requests

_HEAD_SECONDS = 10  # from a connection to the whole head of its request
_SENDING_SECONDS = 2  # for answers that are on their way; a page that is open keeps its connection for longer


def require_library() -> None:
    """ValueError without what a server needs."""
    if find_spec("gradio") is None:
        raise ValueError("serving needs gradio, which is not installed; run: pip install 'triptych[serve]'")


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket at an address, not listening yet. ValueError if that is not to be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"--host {host} --port {port} cannot be used ({reason}); choose another") from None
    return bound


def is_local(bound: socket.socket) -> bool:
    """Whether only this machine can reach a socket."""
    return ipaddress.ip_address(bound.getsockname()[0].partition("%")[0]).is_loopback


def url_of(bound: socket.socket) -> str:
    """Where a browser finds a socket."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve_until_stopped(service: Service, bound: socket.socket, ready: Callable[[], None]) -> None:
    """Answer until Ctrl-C or SIGTERM, then finish what runs within the grace time. `ready` is called once it answers.

    A second Ctrl-C does not wait. RuntimeError if it ends without being asked to.
    """
    import uvicorn

    from triptych.launch.serving.web.connections import bounded_connections

    answering_seconds = service.limits.request_seconds
    with stop_requests() as asked, _page_files() as folder:
        application = _application(service, folder, local=is_local(bound))
        config = uvicorn.Config(
            application,
            log_config=None,
            log_level="error",
            access_log=False,
            http=bounded_connections(min(_HEAD_SECONDS, answering_seconds), answering_seconds),
            ws="none",
            lifespan="on",
            limit_concurrency=service.limits.connections,
            timeout_graceful_shutdown=_SENDING_SECONDS,
        )
        logging.getLogger("uvicorn.error").addFilter(_is_news)
        server = uvicorn.Server(config)
        # Not this thread: there uvicorn would take the signals, and end the process by them.
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([bound])), name="http", daemon=True)
        thread.start()
        try:
            _wait(lambda: server.started or not thread.is_alive() or asked())
            if server.started:
                ready()
            _wait(lambda: asked() or not thread.is_alive())
            if not asked():
                raise RuntimeError("the HTTP server has ended by itself; its reason stands above")
            service.worker.close(service.limits.grace_seconds)
        finally:
            service.worker.close(0)
            server.should_exit = True
            thread.join(_SENDING_SECONDS + 5)


def _application(service: Service, folder: str, *, local: bool) -> Gate:
    """Everything that answers: the endpoint, the page on it, the gate before both."""
    os.environ["GRADIO_TEMP_DIR"] = folder  # what is uploaded goes there; read when it is imported
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_OFFLINE"] = "1"
    from triptych.launch.serving.endpoint import build_endpoint
    from triptych.launch.serving.page.mount import mount_page

    answered: Counter[int] = Counter()

    def note(path: str, status: int) -> None:
        if path == "/v1/generate":
            answered[status] += 1

    limits = service.limits
    return Gate(
        application=mount_page(build_endpoint(service, answered), service),
        body_bytes=limits.body_bytes,
        body_seconds=limits.request_seconds,
        local=local,
        note=note,
    )


@contextmanager
def _page_files() -> Iterator[str]:
    """A folder for what the page takes and shows, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="triptych-serve-", ignore_cleanup_errors=True) as folder:
        yield folder


def _wait(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.05)


def _is_news(record: logging.LogRecord) -> bool:
    """That a page was still open when the server ended is none."""
    return "graceful shutdown" not in record.getMessage()
