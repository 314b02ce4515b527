"""Connections that nothing comes of end, so that whoever holds many open does not keep everybody else out."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol


def bounded_connections(head_seconds: float, stalled_seconds: float) -> type[H11Protocol]:
    """uvicorn's connections by h11 (whose heads are bounded in size) with two more bounds: the head of a request must
    be there so long after the connection, or after the head's first byte; an answer must be taken within
    stalled_seconds. uvicorn itself bounds only the time from an answer to the next byte.
    """

    class BoundedConnection(H11Protocol):
        _head: asyncio.TimerHandle | None = None
        _answer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._await_head()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._await_head()

        def pause_writing(self) -> None:
            super().pause_writing()
            # Not close(), which would wait for what nobody reads.
            self._answer = asyncio.get_running_loop().call_later(stalled_seconds, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._answer = _cancelled(self._answer)

        def connection_lost(self, exc: Exception | None) -> None:
            self._head, self._answer = _cancelled(self._head), _cancelled(self._answer)
            super().connection_lost(exc)

        def _await_head(self) -> None:
            if self.cycle is not None and not self.cycle.response_complete:  # it is there, the body is the gate's
                self._head = _cancelled(self._head)
            elif self._head is None:
                self._head = asyncio.get_running_loop().call_later(head_seconds, self.transport.close)

    return BoundedConnection


def _cancelled(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
