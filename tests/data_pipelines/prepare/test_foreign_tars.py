"""Archives of others: what could reach outside or is damaged is refused, the rest read as webdataset groups it."""

import io
import random
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prepare_inputs import write_tar

from triptych.data_pipelines.prepare.inputs.streams import open_stream
from triptych.data_pipelines.prepare.inputs.tars import read_samples


def read(path, max_member_bytes=1000):
    with open_stream(path) as stream:
        return list(read_samples(stream, ("txt", "json"), max_member_bytes))


def special(name, kind, target=""):
    header = tarfile.TarInfo(name)
    header.type, header.linkname = kind, target
    return header, b""


def test_members_are_grouped_by_the_name_up_to_the_first_dot(tmp_path):
    names = [
        "a/x.txt",
        "a/x.JSON",
        "a/x.seg.png",
        "b.c/x.txt",
        "b.c/x.json",
        "x.txt",
        "noextension",
        ".hidden",
        "x.json",
    ]
    samples = read(write_tar(tmp_path / "a.tar", [(name, name.encode()) for name in names]))
    assert [(sample.key, sample.members) for sample in samples] == [
        ("a/x", {"txt": b"a/x.txt", "json": b"a/x.JSON"}),
        ("b.c/x", {"txt": b"b.c/x.txt", "json": b"b.c/x.json"}),
        ("x", {"txt": b"x.txt", "json": b"x.json"}),
    ]


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (("../up.txt", b"1"), "tar path"),
        (("/etc/passwd.txt", b"1"), "tar path"),
        (("a/../../up.txt", b"1"), "tar path"),
        (special("link.txt", tarfile.SYMTYPE, "/etc/passwd"), "tar member"),
        (special("hard.txt", tarfile.LNKTYPE, "first.txt"), "tar member"),
        (special("device.txt", tarfile.CHRTYPE), "tar member"),
        (special("pipe.txt", tarfile.FIFOTYPE), "tar member"),
        (("large.txt", bytes(1001)), "tar member"),
    ],
)
def test_a_bad_member_costs_its_sample_alone(tmp_path, member, reason):
    first, bad, last = read(write_tar(tmp_path / "a.tar", [("first.txt", b"1"), member, ("last.txt", b"2")]))
    assert bad.damage is not None and bad.damage.reason == reason
    assert (first.members, bad.members, last.members) == ({"txt": b"1"}, {}, {"txt": b"2"})


def test_the_same_member_twice_and_too_many(tmp_path):
    twice = read(write_tar(tmp_path / "a.tar", [("a.txt", b"1"), ("a.txt", b"2")]))
    many = read(write_tar(tmp_path / "b.tar", [(f"a.{i}", b"") for i in range(65)]))
    assert [sample.damage.detail for sample in (*twice, *many)] == [
        "it has two members .txt",
        "it has more than 64 members",
    ]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_archives_one_after_the_other(tmp_path, form):
    long = f"{'d' * 90}/{'ä' * 60}/{'k' * 90}.txt"
    buffer = io.BytesIO()
    for name in (long, "short.txt"):
        with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
            header = tarfile.TarInfo(name)
            header.size = 3
            tar.addfile(header, io.BytesIO(b"abc"))
    (tmp_path / "a.tar").write_bytes(buffer.getvalue())
    samples = read(tmp_path / "a.tar")
    assert [(sample.key, sample.members) for sample in samples] == [
        (long[:-4], {"txt": b"abc"}),
        ("short", {"txt": b"abc"}),
    ]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("share", [0.2, 0.45, 0.6])
def test_a_tar_that_ends_early_says_so_once(tmp_path, mode, share):
    path = write_tar(
        tmp_path / ("a.tar" if mode == "w" else "a.tar.gz"),
        [(f"{i}.txt", random.Random(i).randbytes(900)) for i in range(9)],
        mode,
    )
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    samples = read(path)
    assert [sample.damage.reason for sample in samples if sample.damage] == ["tar"]
    assert samples[-1].damage is not None


def test_a_size_past_the_end(tmp_path):
    header = tarfile.TarInfo("a.bin")
    header.size = 8**11 - 1
    (tmp_path / "a.tar").write_bytes(header.tobuf(tarfile.USTAR_FORMAT) + bytes(1024))
    (sample,) = read(tmp_path / "a.tar")
    assert sample.damage is not None and "a member ends early" in sample.damage.detail


def test_a_huge_pax_header_is_not_read(tmp_path):
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 8**10
    (tmp_path / "a.tar").write_bytes(header.tobuf(tarfile.USTAR_FORMAT) + bytes(1024))
    (sample,) = read(tmp_path / "a.tar")
    assert (sample.key, sample.damage.reason) == ("end", "tar")


@given(st.data())
def test_no_bytes_make_the_reader_fail_otherwise(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("tars") / "a.tar"
    content = bytearray(
        write_tar(path, [("a.txt", b"1"), ("a.json", b"{}"), ("ä" * 120 + ".txt", b"2")]).read_bytes()[:6000]
    )
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=8)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    samples = read(path)
    assert all(sample.damage is None or sample.damage.reason.startswith("tar") for sample in samples)


@pytest.mark.parametrize("size", [(1 << 63) - 1, (1 << 88) - 1, 10_000])
def test_a_size_beyond_the_end_is_not_believed(tmp_path, size):
    """In base 256, as GNU tar writes large ones."""
    path = write_tar(tmp_path / "a.tar", [("a.txt", b"1"), ("b.png", b"2")])
    data = bytearray(path.read_bytes())
    at = data.index(b"b.png")
    data[at + 124 : at + 136] = (size | 1 << 95).to_bytes(12, "big")
    data[at + 148 : at + 156] = b" " * 8
    data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    path.write_bytes(data)
    first, last = read(path)
    assert (first.members, first.damage) == ({"txt": b"1"}, None)
    assert last.damage is not None and last.damage.reason == "tar"
    assert sum(sample.num_bytes for sample in (first, last)) <= len(data)


def test_names_come_to_a_terminal_as_they_can_be_shown(tmp_path):
    (sample,) = read(write_tar(tmp_path / "a.tar", [("../\x1b[31m.txt", b"1")]))
    assert str(sample.damage).isprintable()
