"""What libraries of C print of damaged files: kilobytes for each, which would fill the log of a preparation."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from triptych.data_pipelines.shards.mp3 import is_mp3


@contextmanager
def quiet(media: bytes) -> Iterator[None]:
    """While an MP3 is decoded, the process's standard error leads nowhere: libmpg123 reports every frame that it does
    not like there, and libsndfile has no switch for it. For a process of which no other thread has anything to say
    meanwhile; bars of progress go to standard output.
    """
    if not is_mp3(media):
        yield
        return
    try:
        kept = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    if sys.stderr is not None:
        sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
