"""A file read from its start to its end, some megabytes at a time, and digested on the way."""

import hashlib

from triptych.data_pipelines.shards.errors import UnreadableShard
from triptych.data_pipelines.storage.folder import Range
from triptych.data_pipelines.storage.retry import PatientFolder, Unread

_BYTES_AT_ONCE = 8 << 20


class SequentialFile:
    """num_bytes: of the file. Reading raises UnreadableShard if the store does not give them."""

    def __init__(self, files: PatientFolder, name: str, num_bytes: int) -> None:
        self._files = files
        self._name = name
        self._num_bytes = num_bytes
        self._digest = hashlib.sha256()
        self._buffer, self._start = b"", 0
        self.position = 0

    def read(self, size: int) -> bytes:
        """The next `size` bytes, or what is left."""
        stop = min(self.position + size, self._num_bytes)
        parts: list[bytes] = []
        while self.position < stop:
            if self.position == self._start + len(self._buffer):
                self._fill()
            parts.append(self._buffer[self.position - self._start : stop - self._start])
            self.position += len(parts[-1])
        return b"".join(parts)

    def skip(self, position: int) -> None:
        """Go on to a position that lies ahead."""
        while self.position < min(position, self._num_bytes):
            self.read(min(_BYTES_AT_ONCE, position - self.position))

    def sha256(self) -> str:
        """Of the whole file; reads what is left."""
        self.skip(self._num_bytes)
        return self._digest.hexdigest()

    def _fill(self) -> None:
        start = self._start + len(self._buffer)
        (data,) = self._files.read_ranges([Range(self._name, start, min(start + _BYTES_AT_ONCE, self._num_bytes))])
        if isinstance(data, Unread):
            raise UnreadableShard(data.reason, data.detail, data.attempts)
        self._buffer, self._start = data, start
        self._digest.update(data)
