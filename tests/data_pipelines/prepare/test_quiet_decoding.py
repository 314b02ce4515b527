"""Standard error leads nowhere while an MP3 is decoded, and is itself again whatever came of that."""

import os
import subprocess
import sys

import pytest

from triptych.data_pipelines.prepare.quiet import quiet

MP3 = bytes((0xFF, 0xFB, 0x90, 0x00))


def _fail(media):
    with quiet(media):
        os.write(2, b"during ")
        raise ValueError("planted")


@pytest.mark.parametrize(("media", "heard"), [(MP3, b"before after"), (b"fLaC", b"before during after")])
def test_what_is_written_meanwhile_is_not_seen(capfdbinary, media, heard):
    os.write(2, b"before ")
    with pytest.raises(ValueError, match="planted"):
        _fail(media)
    os.write(2, b"after")
    assert capfdbinary.readouterr().err == heard


def test_no_descriptor_is_left_open():
    before = sorted(os.listdir("/proc/self/fd"))
    with quiet(MP3):
        assert len(os.listdir("/proc/self/fd")) == len(before) + 2
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_without_a_standard_error_there_is_nothing_to_silence():
    code = f"""if True:
        import os
        os.close(2)
        from triptych.data_pipelines.prepare.quiet import quiet
        with quiet({MP3!r}):
            print("decoded")
    """
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=False)
    assert (done.returncode, done.stdout) == (0, b"decoded\n")
