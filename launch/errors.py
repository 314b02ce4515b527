"""Errors as a user sees them: one line that names the mend, exit code 2."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

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


@contextmanager
def silent_usage_errors() -> Iterator[None]:
    """Exit code 2 without a word for a command line that cannot be parsed: another process has said why."""
    usage_error = typer.BadParameter.__base__  # typer names only this kind of them
    assert usage_error is not None
    try:
        yield
    except Exception as error:
        if isinstance(error, usage_error):
            raise SystemExit(2) from None
        raise


def describe(error: ValueError | OSError) -> str:
    """The error in one line, with a mend where the system's own message has none."""
    text = " ".join(str(error).split())
    if not isinstance(error, OSError) or "; " in text:
        return text
    if error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    return f"{text}; {_MENDS.get(error.errno or 0, 'check it, or choose another')}"


_MENDS = {
    errno.ENOSPC: "free disk space, or write to another disk",
    errno.EDQUOT: "free disk space, or write to another disk",
    errno.EACCES: "change its permissions, or choose a folder that you may write to",
    errno.EPERM: "change its permissions, or choose a folder that you may write to",
    errno.EROFS: "choose a folder that you may write to",
    errno.ENOENT: "check the path",
    errno.EEXIST: "remove it or choose another",
    errno.ENOTDIR: "a part of the path is a file: choose another",
    errno.EISDIR: "it is a folder: name a file",
}
