"""Unpacks archives that nobody has to trust: refused whole, and nothing stays behind."""

from __future__ import annotations

import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mlstead.artifacts import _disk
from mlstead.artifacts._inflate import HEADERS, Inflated, Meter
from mlstead.artifacts._manifest import check_path
from mlstead.errors import ConflictError, NotFoundError, UserError

_CHUNK = 1 << 20
_DIRECTORY = 64 << 20
_MOST_NAMES = 1_000_000
_LINK = 4096
_LIMIT = 1 << 40
_BROKEN = (
    tarfile.TarError, zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, lzma.LZMAError,
    EOFError, struct.error, ValueError, RuntimeError, OverflowError, MemoryError, IndexError,
    KeyError,
)  # fmt: skip


def is_archive(path: Path) -> bool:
    """Whether the name is one that ``unpack`` takes."""
    return path.name.lower().endswith(
        (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".zip")
    )


def unpack(archive: Path, target: Path, *, limit: int = _LIMIT) -> None:
    """Unpack a tar (plain, gzip, bzip2, xz) or zip file into a new folder.

    Owners, times and rights are not kept, except the right to run a file.

    Args:
        archive: the file; its kind is told by its bytes.
        target: the folder to make; it must not exist, or be empty.
        limit: bytes it may unpack to in all.

    Raises:
        NotFoundError: there is no such file.
        ConflictError: the target exists and is not empty.
        UserError: the archive is broken or not one, has names that climb or are absolute,
            links that point outside, devices, or unpacks to far more than its size.
    """
    if not archive.is_file():
        raise NotFoundError(f"{archive}: no such file")
    if target.is_symlink() or (target.exists() and (target.is_file() or any(target.iterdir()))):
        raise ConflictError(f"{target}: exists already", hint="choose another place")
    aside = _disk.beside(target)
    try:
        with _disk.plain_errors(target):
            aside.mkdir(parents=True)
            _into(archive, aside.resolve(), limit)
            aside.rename(target)
    finally:
        _disk.remove_tree(aside)


def _into(archive: Path, aside: Path, limit: int) -> None:
    with _explained(archive), archive.open("rb") as file:
        meter = Meter(archive.stat().st_size, limit)
        start = file.read(4)
        file.seek(0)
        place = _Place(aside)
        if start in (b"PK\x03\x04", b"PK\x05\x06"):
            _zip(file, place, meter)
        else:
            _tar(file, place, meter)
        place.finish()


@contextmanager
def _explained(archive: Path) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UserError(f"{archive}: {error}", hint=error.hint) from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise UserError(f"{archive}: names the same place twice: refused") from error
    except _BROKEN as error:
        raise UserError(f"{archive}: is no archive, or a broken one: {error}") from error


class _Place:
    """The folder that an archive is unpacked into; only this class makes things in it.

    Links are made last, when no file can be written through them any more.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.links: dict[str, str] = {}
        self.names = 0

    def path(self, name: str) -> str:
        """Check a name and give the path; make the folders above it."""
        plain = "/".join(part for part in name.split("/") if part not in ("", "."))
        self.names += 1
        if self.names > _MOST_NAMES:
            raise UserError("more than a million names: refused")
        if name.startswith("/"):
            raise UserError(f"{name!r} is absolute: refused")
        if not plain:
            return str(self.root)
        check_path(plain)
        path = f"{self.root}/{plain}"
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
        if plain in self.links:
            raise UserError(f"{plain!r} is named twice")
        return path

    def folder(self, name: str) -> None:
        os.makedirs(self.path(name), exist_ok=True)  # noqa: PTH103

    def file(self, name: str, executable: bool, read: Callable[[int], bytes]) -> None:
        path = self.path(name)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755 if executable else 0o644)
        with open(handle, "wb") as file:  # noqa: PTH123 a handle
            while chunk := read(_CHUNK):
                file.write(chunk)

    def link(self, name: str, to: str) -> None:
        path = self.path(name)
        if os.path.lexists(path):
            raise FileExistsError(17, "named twice", path)
        plain = os.path.relpath(path, self.root)
        end = os.path.normpath(os.path.join(os.path.dirname(plain), to))  # noqa: PTH118, PTH120
        if to.startswith("/") or end == ".." or end.startswith("../") or not to or "\0" in to:
            raise UserError(f"{name!r} is a link that points outside: refused")
        self.links[plain] = to

    def hard_link(self, name: str, to: str) -> None:
        source, path = self.path(to), self.path(name)
        if not stat.S_ISREG(os.lstat(source).st_mode):
            raise UserError(f"{name!r} is a link to what is not a file: refused")
        os.link(source, path)

    def finish(self) -> None:
        """Make the links, and look where they really lead."""
        for name, to in self.links.items():
            path = self.root / name
            if path.parent.resolve() != self.root / Path(name).parent:
                raise UserError(f"{name!r} stands below a link: refused")
            path.symlink_to(to)
        for name in self.links:
            if not (self.root / name).resolve().is_relative_to(self.root.resolve()):
                raise UserError(f"{name!r} is a link that points outside: refused")


def _tar(file: IO[bytes], place: _Place, meter: Meter) -> None:
    stream = Inflated(file, meter)
    with tarfile.open(fileobj=stream, mode="r|", errorlevel=2) as archive:
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined] # millions of names are no reason to grow
            stream.allowance = member.size + HEADERS
            _tar_member(archive, member, place)
            stream.allowance = HEADERS
    if not place.names:
        raise UserError("nothing in it, or no archive")
    stream.allowance = meter.limit
    while stream.read(_CHUNK):
        """Read to the end: only there a cut or a wrong checksum shows."""


def _tar_member(archive: tarfile.TarFile, member: tarfile.TarInfo, place: _Place) -> None:
    name = member.name
    if member.isdir():
        place.folder(name)
    elif member.issym():
        place.link(name, member.linkname)
    elif member.islnk():
        place.hard_link(name, member.linkname)
    elif member.isreg() and not member.issparse():
        content = archive.extractfile(member)
        assert content is not None
        place.file(name, bool(member.mode & 0o100), content.read)
    else:
        raise UserError(f"{name!r} is a device, a pipe or something else: refused")


def _zip(file: IO[bytes], place: _Place, meter: Meter) -> None:
    _check_directory(file)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        announced = Meter(0, meter.limit)
        announced.by_ratio = meter.by_ratio
        for member in members:
            announced.count(member.file_size)
        for member in members:
            _zip_member(archive, member, place, meter)


def _zip_member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, place: _Place, meter: Meter
) -> None:
    name, mode = member.filename, member.external_attr >> 16
    if "\0" in member.orig_filename:
        raise UserError(f"{name!r} is no name: refused")
    if member.is_dir():
        place.folder(name)
        return
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFLNK):
        raise UserError(f"{name!r} is a device, a pipe or something else: refused")
    with archive.open(member) as content:

        def read(size: int) -> bytes:
            chunk = content.read(size)
            meter.count(len(chunk))
            return chunk

        if stat.S_ISLNK(mode):
            if member.file_size > _LINK:
                raise UserError(f"{name!r} is a link with too long a target: refused")
            place.link(name, read(_LINK + 1).decode())
        else:
            place.file(name, bool(mode & 0o100), read)


def _check_directory(file: IO[bytes]) -> None:
    """Refuse a zip whose table of contents alone would fill the memory."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 65557))
    tail = file.read()
    file.seek(0)
    found = tail.rfind(b"PK\x05\x06")
    if found < 0 or len(tail) < found + 22:
        raise UserError("cut off")
    length = struct.unpack_from("<L", tail, found + 12)[0]
    wide = tail.rfind(b"PK\x06\x06", 0, found)
    if length == 0xFFFFFFFF and wide >= 0:
        length = struct.unpack_from("<Q", tail, wide + 40)[0]
    if length > _DIRECTORY:
        raise UserError("its table of contents is too large: refused")
