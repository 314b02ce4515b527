"""Errors as a user sees them: one line that names the mend, exit code 2."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED = 130


@contextmanager
def one_line_errors(*, show_traceback: bool) -> Iterator[None]:
    """Turn ValueError and OSError into one line and exit code 2, and Ctrl-C into exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        print("triptych: interrupted; nothing half-written is left", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except (ValueError, OSError) as error:
        if show_traceback:
            raise
        print(f"triptych: error: {describe(error)}", file=sys.stderr)
        raise SystemExit(2) from None


def describe(error: ValueError | OSError) -> str:
    """The error in one line, with a mend where the system's own message has none."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"{text}; free disk space, or write to another disk"
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EROFS):
        return f"{text}; choose a folder that you may write to"
    return text
