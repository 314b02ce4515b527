"""What every request passes first: whom it was meant for, how large it is, and what the page may load.

Plain ASGI, so that a client that goes away is noticed behind it.
"""

import asyncio
import ipaddress
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from triptych.launch.serving.refusals import Refused

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

# The page's library asks for fonts and scripts of other hosts in places; a browser is told to load none of them.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' data: blob:; worker-src 'self' blob:; frame-ancestors 'self'"
)
# A client that still sends would meet a closed connection before it reads why; what is more than this, does.
_DRAINED_BYTES, _DRAINED_SECONDS = 64 << 20, 5.0


@dataclass(kw_only=True, slots=True, frozen=True)
class Gate:
    """application behind bounds. body_seconds: a body that takes longer is refused (408). local: only requests for this
    machine by one of its own names, and from no page of another (403): neither under a name of its own nor by this
    machine's does a foreign page reach the server. note: is told path and status of every answer.
    """

    application: Application
    body_bytes: int
    body_seconds: float
    local: bool
    note: Callable[[str, int], None]

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        answering = False

        async def send_with_policy(message: Message) -> None:
            nonlocal answering
            if message["type"] == "http.response.start":
                answering = True
                extra = [(b"content-security-policy", POLICY.encode()), (b"x-content-type-options", b"nosniff")]
                message = {**message, "headers": [*message.get("headers", ()), *extra]}
                self.note(scope["path"], message["status"])
            await send(message)

        async def send_unless_refused(message: Message) -> None:
            if answering or bounded.refused is None:
                await send_with_policy(message)

        bounded = _BoundedBody(receive, self.body_bytes, self.body_seconds)
        refused = self._refused(scope)
        if refused is None:
            try:
                await self.application(scope, bounded, send_unless_refused)
            except Refused:
                assert bounded.refused is not None
            refused = bounded.refused
        if refused is not None and not answering:
            await _drain(receive)
            await _answer(send_with_policy, refused)

    def _refused(self, scope: MutableMapping[str, Any]) -> Refused | None:
        """Why a request is not even looked at, if it is not."""
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get(b"host", "localhost"), headers.get(b"origin")
        if self.local and not _is_this_machine(f"//{host}"):
            return Refused(403, f"{host[:80]!r} is no name of this machine; ask for localhost, or serve on a --host")
        if self.local and origin is not None and not _is_this_machine(origin):
            return Refused(403, f"a page of {origin[:80]!r} may not ask here; open the server's own page")
        length = headers.get(b"content-length", "0")
        if length.isdecimal() and int(length[:20]) > self.body_bytes:
            return _too_large(self.body_bytes)
        return None


class _BoundedBody:
    """Receives for the application, and counts."""

    def __init__(self, receive: Receive, num_bytes: int, seconds: float) -> None:
        self._receive = receive
        self._bytes, self._left = num_bytes, num_bytes
        self._end = time.monotonic() + seconds
        self._whole = False
        self.refused: Refused | None = None

    async def __call__(self) -> Message:
        if self._whole:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, self._end - time.monotonic()))
        except TimeoutError:
            self.refused = Refused(408, "the request's body takes too long to arrive; send it faster")
            raise self.refused from None
        self._left -= len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._left < 0:
            self.refused = _too_large(self._bytes)
            raise self.refused
        return message


def _is_this_machine(url: str) -> bool:
    """Whether a URL's host is localhost or a loopback address, of which there are more than one."""
    try:
        name = urlsplit(url).hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _too_large(num_bytes: int) -> Refused:
    return Refused(413, f"the request is larger than {num_bytes} bytes; send less at a time")


async def _drain(receive: Receive) -> None:
    """Take what is still being sent, and keep none of it."""
    left = _DRAINED_BYTES
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAINED_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


async def _answer(send: Send, refused: Refused) -> None:
    body = json.dumps({"error": refused.sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers.append((b"connection", b"close"))  # what is left of the body is not read
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
