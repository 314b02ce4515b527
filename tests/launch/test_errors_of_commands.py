"""An error as a user sees it: one line, with a mend, exit code 2; Ctrl-C is 130; a programmer's error stays one."""

import errno
import os

import pytest

from triptych.launch.errors import describe, one_line_errors


def ended(error, show_traceback=False):
    with one_line_errors(show_traceback=show_traceback):
        raise error


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.ENOENT, errno.EISDIR, errno.EIO])
def test_a_system_error_names_its_file_and_a_mend(number):
    assert describe(OSError(number, os.strerror(number), "run/x")).startswith(f"run/x: {os.strerror(number)}; ")


def test_a_mend_is_not_given_twice():
    assert describe(OSError(errno.ENOSPC, "full, nothing was kept; free some space", "x")).count(";") == 1


def test_several_lines_become_one():
    assert describe(ValueError("first\n  second; mend")) == "first second; mend"


@pytest.mark.parametrize("error", [ValueError("x; y"), OSError(errno.EIO, "x", "y")])
def test_exit_code_2(error, capsys):
    with pytest.raises(SystemExit) as caught:
        ended(error)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("triptych: error: ")


def test_an_interrupt_is_130(capsys):
    with pytest.raises(SystemExit) as caught:
        ended(KeyboardInterrupt())
    assert caught.value.code == 130
    assert "interrupted" in capsys.readouterr().err


def test_the_traceback_is_kept_when_asked_for():
    with pytest.raises(ValueError, match="x; y"):
        ended(ValueError("x; y"), show_traceback=True)


def test_our_own_mistakes_are_not_dressed_up():
    with pytest.raises(AssertionError):
        ended(AssertionError("broken"))
