"""Archives are unpacked, or refused whole with nothing left behind."""

import bz2
import gzip
import io
import lzma
import os
import resource
import stat
import struct
import subprocess
import sys
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlstead.artifacts import _inflate
from mlstead.artifacts.archives import is_archive, unpack
from mlstead.errors import ConflictError, NotFoundError, UserError

Member = tuple[str, str, bytes]
"""The kind, the name, and the content or what a link points to."""

KINDS = {
    "file": tarfile.REGTYPE, "link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE,
    "folder": tarfile.DIRTYPE, "device": tarfile.CHRTYPE, "pipe": tarfile.FIFOTYPE,
    "sparse": tarfile.GNUTYPE_SPARSE,
}  # fmt: skip
MODES = {"file": stat.S_IFREG, "link": stat.S_IFLNK, "folder": stat.S_IFDIR,
         "device": stat.S_IFCHR, "pipe": stat.S_IFIFO}  # fmt: skip


def tar(path: Path, *members: Member, mode: int = 0o644) -> Path:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for kind, name, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.mode = KINDS[kind], mode
            if kind == "file":
                info.size = len(content)
            elif kind != "folder":
                info.linkname = content.decode()
            archive.addfile(info, io.BytesIO(content))
    packed: dict[str, Callable[[bytes], bytes]] = {
        ".gz": gzip.compress, ".tgz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress,
    }  # fmt: skip
    path.write_bytes(packed.get(path.suffix, bytes)(raw.getvalue()))
    return path


def zip_(path: Path, *members: Member, mode: int = 0o644) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore", UserWarning)  # a name twice is what we want
        for kind, name, content in members:
            info = zipfile.ZipInfo(name + "/" * (kind == "folder"))
            info.external_attr = (MODES[kind] | mode) << 16
            archive.writestr(info, content, compress_type=zipfile.ZIP_DEFLATED)
    return path


MAKERS: dict[str, Callable[..., Path]] = {
    "a.tar": tar, "a.tar.gz": tar, "a.tgz": tar, "a.tar.bz2": tar, "a.tar.xz": tar, "a.zip": zip_,
}  # fmt: skip


def refused(archive: Path, match: str = "a.") -> None:
    """Make sure that it is refused and that nothing is there afterwards."""
    before = set(archive.parent.iterdir())
    with pytest.raises(UserError, match=match) as caught:
        unpack(archive, archive.parent / "out")
    assert "\n" not in str(caught.value)
    assert set(archive.parent.iterdir()) == before


@pytest.mark.parametrize("name", MAKERS)
def test_every_kind_of_archive_unpacks(tmp_path: Path, name: str) -> None:
    content = os.urandom((1 << 20) + 99)
    members = (
        ("file", "a.bin", content),
        ("folder", "d/e", b""),
        ("file", "d/b.sh", b"#!"),
        ("link", "d/to", b"../a.bin"),
        ("file", "./c", b""),
    )
    unpack(MAKERS[name](tmp_path / name, *members, mode=0o4755), tmp_path / "out")
    out = tmp_path / "out"
    assert (out / "a.bin").read_bytes() == (out / "d" / "to").read_bytes() == content
    assert {path.relative_to(out).as_posix() for path in out.rglob("*")} == {
        "a.bin", "c", "d", "d/b.sh", "d/e", "d/to",
    }  # fmt: skip
    assert stat.S_IMODE((out / "d" / "b.sh").stat().st_mode) & 0o7700 == 0o700
    assert is_archive(tmp_path / name)


def test_a_hard_link_inside_is_kept(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar", ("file", "a", b"x"), ("hard", "b", b"a"))
    unpack(archive, tmp_path / "out")
    assert (tmp_path / "out" / "b").read_bytes() == b"x"


@pytest.mark.parametrize("maker", ["a.tar", "a.zip"])
@pytest.mark.parametrize(
    "name", ["../evil", "/evil", "a/../../evil", "..", "a\\..\\evil", "C:\\evil", "a\nb", "a/.."]
)
def test_names_that_climb_are_refused(tmp_path: Path, maker: str, name: str) -> None:
    archive = MAKERS[maker](tmp_path / maker, ("file", "good", b"x"), ("file", name, b"x"))
    refused(archive)
    assert not (tmp_path.parent / "evil").exists()


@pytest.mark.parametrize("maker", ["a.tar", "a.zip"])
@pytest.mark.parametrize("to", ["/etc/passwd", "../evil", "..", "d/../../evil", ""])
def test_links_that_point_outside_are_refused(tmp_path: Path, maker: str, to: str) -> None:
    refused(MAKERS[maker](tmp_path / maker, ("link", "l", to.encode())))


@pytest.mark.parametrize("maker", ["a.tar", "a.zip"])
@pytest.mark.parametrize(
    "members",
    [
        (("link", "d", b"."), ("file", "d/x", b"x")),
        (("link", "d", b"e"), ("folder", "e", b""), ("file", "d/x", b"x")),
        (("link", "d", b"e"), ("link", "d/l", b"x")),
        (("folder", "e/f", b""), ("link", "r", b"."), ("link", "l", b"r/../..")),
        (("link", "r", b"."), ("link", "l", b"r/../evil")),
        (("file", "a", b"x"), ("file", "a", b"y")),
        (("file", "a", b"x"), ("file", "a/b", b"y")),
        (("link", "a", b"b"), ("file", "a", b"y")),
    ],
)
def test_writing_through_links_and_naming_twice_is_refused(
    tmp_path: Path, maker: str, members: tuple[Member, ...]
) -> None:
    refused(MAKERS[maker](tmp_path / maker, *members))


@pytest.mark.parametrize("maker", ["a.tar", "a.zip"])
@pytest.mark.parametrize("kind", ["device", "pipe"])
def test_devices_are_refused(tmp_path: Path, maker: str, kind: str) -> None:
    refused(MAKERS[maker](tmp_path / maker, ("file", "a", b"x"), (kind, "b", b"")), "device")


@pytest.mark.parametrize("to", [b"../evil", b"/etc/passwd", b"nothing", b"l", b"d"])
def test_hard_links_to_what_is_no_file_inside_are_refused(tmp_path: Path, to: bytes) -> None:
    members = (("folder", "d", b""), ("link", "l", b"d"), ("hard", "h", to))
    refused(tar(tmp_path / "a.tar", *members))


def test_a_sparse_file_is_refused(tmp_path: Path) -> None:
    refused(tar(tmp_path / "a.tar", ("sparse", "a", b"")))


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "a.tar"])
def test_a_bomb_is_refused_by_its_ratio(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_inflate, "_FREE", 1 << 20)
    refused(MAKERS[name](tmp_path / name, ("file", "a", b"\0" * (16 << 20))), "times its size")


@pytest.mark.parametrize("name", MAKERS)
def test_the_limit_holds(tmp_path: Path, name: str) -> None:
    archive = MAKERS[name](tmp_path / name, ("file", "a", os.urandom((1 << 20) + 99)))
    with pytest.raises(UserError, match="more than 1 MiB"):
        unpack(archive, tmp_path / "out", limit=1 << 20)
    assert not (tmp_path / "out").exists()


def test_a_bomb_of_headers_is_refused_in_little_memory(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 3 << 30
    with gzip.open(tmp_path / "a.tar.gz", "wb", compresslevel=1) as file:
        file.write(info.tobuf())
        for _ in range(64):
            file.write(b"\0" * (1 << 20))
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (600 << 20,) * 2)\n"
        "from pathlib import Path\n"
        "from mlstead.artifacts.archives import unpack\n"
        "from mlstead.errors import UserError\n"
        "try: unpack(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except UserError as error: print(error)\n"
    )
    args = [sys.executable, "-c", code, str(tmp_path / "a.tar.gz"), str(tmp_path / "out")]
    done = subprocess.run(args, capture_output=True, text=True, check=True)
    assert "headers of the archive are too large" in done.stdout
    assert not (tmp_path / "out").exists()


def test_a_large_archive_needs_little_memory(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("x")
        info.size = 64 << 20
        with _Zeros() as zeros:
            archive.addfile(info, zeros)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unpack(tmp_path / "a.tar", tmp_path / "out")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert (tmp_path / "out" / "x").stat().st_size == 64 << 20
    assert grown < 30 << 10  # KiB


class _Zeros(io.RawIOBase):
    def read(self, size: int = -1) -> bytes:
        return b"\0" * size


def test_a_zip_that_lies_about_sizes_is_refused(tmp_path: Path) -> None:
    archive = zip_(tmp_path / "a.zip", ("file", "a", b"x" * 1000))
    content = bytearray(archive.read_bytes())
    place = content.rfind(b"PK\x01\x02")
    content[place + 24 : place + 28] = struct.pack("<L", 10)
    archive.write_bytes(content)
    refused(archive)


def test_a_zip_with_a_huge_table_is_refused(tmp_path: Path) -> None:
    archive = zip_(tmp_path / "a.zip", ("file", "a", b"x"))
    content = bytearray(archive.read_bytes())
    place = content.rfind(b"PK\x05\x06")
    content[place + 12 : place + 16] = struct.pack("<L", 1 << 30)
    archive.write_bytes(content)
    refused(archive, "table of contents")


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    archive = zip_(tmp_path / "a.zip", ("file", "a", b"x"))
    content = bytearray(archive.read_bytes())
    content[6] |= 1
    content[content.rfind(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    refused(archive, "encrypted")


@pytest.mark.parametrize("name", MAKERS)
def test_a_cut_archive_is_refused(tmp_path: Path, name: str) -> None:
    archive = MAKERS[name](tmp_path / name, ("file", "a", os.urandom(100_000)))
    archive.write_bytes(archive.read_bytes()[:60_000])
    refused(archive)


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "a.tar"])
def test_a_flipped_bit_is_refused(tmp_path: Path, name: str) -> None:
    archive = MAKERS[name](tmp_path / name, ("file", "a", os.urandom(100_000)))
    content = bytearray(archive.read_bytes())
    content[50_000] ^= 1
    archive.write_bytes(content)
    refused(archive)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", b"\x1f\x8b", b"\0" * 2048])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    refused(tmp_path / "a.tar")


def test_what_is_there_is_never_touched(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar", ("file", "a", b"x"))
    (tmp_path / "out").mkdir()
    unpack(archive, tmp_path / "out")
    with pytest.raises(ConflictError):
        unpack(archive, tmp_path / "out")
    with pytest.raises(NotFoundError):
        unpack(tmp_path / "nothing.zip", tmp_path / "other")


PIECES = st.sampled_from(["..", ".", "a", "b", "/", "", "~", "%2e%2e", "c\\d", "..."])


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.lists(PIECES, min_size=1, max_size=5).map("/".join), min_size=1, max_size=4),
    st.sampled_from(["file", "link"]),
)
def test_nothing_ever_lands_outside(tmp_path: Path, names: list[str], kind: str) -> None:
    place = tmp_path / os.urandom(8).hex()
    place.mkdir()
    members = [("file", "first", b"x")] + [(kind, name, name.encode()) for name in names]
    archive = tar(place / "a.tar", *[member for member in members if member[1]])
    try:
        unpack(archive, place / "out")
    except UserError:
        assert {path.name for path in place.iterdir()} == {"a.tar"}
    else:
        assert {path.name for path in place.iterdir()} == {"a.tar", "out"}
        root = (place / "out").resolve()
        assert all(path.resolve().is_relative_to(root) for path in root.rglob("*"))
