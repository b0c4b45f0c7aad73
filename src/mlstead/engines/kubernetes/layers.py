"""Layers of images: the same files give the same bytes, made once and kept by what is in them."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
import tarfile
import uuid
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Protocol

from mlstead.engines.kubernetes.notes import read_note, write_note
from mlstead.errors import UserError

_FORMAT: Final = 1
"""Part of every key: a change of how layers are made makes them anew."""
_LEVEL: Final = 1
"""Of zlib: measured in docs/decisions/0016, higher ones cost more time than they save."""
_CHUNK: Final = 1 << 18
_READY: Final = "layers"


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer in the cache.

    Attributes:
        digest: of the bytes that travel; inner: of what they unpack to; size: of the former.
        title: what people are told it is.
    """

    digest: str
    inner: str
    size: int
    path: Path
    title: str


class Fill(Protocol):
    """Writes the files of a layer."""

    def __call__(self, tar: Tar) -> None: ...


@dataclass(frozen=True, slots=True)
class Part:
    """A layer that is wanted: its key says all that its bytes depend on."""

    title: str
    key: str
    fill: Fill


class Tar:
    """A tar archive whose bytes depend on nothing but names, contents and three permissions."""

    def __init__(self, out: IO[bytes]) -> None:
        self._tar = tarfile.TarFile(
            fileobj=out,
            mode="w",
            format=tarfile.GNU_FORMAT,
            encoding="utf-8",
            errors="surrogateescape",
            copybufsize=_CHUNK,
        )
        self._folders: set[str] = set()

    def file(self, path: str, content: IO[bytes], size: int, *, program: bool = False) -> None:
        """Write a file; everybody may read it, and run it if it is a program."""
        member = self._member(path)
        member.size, member.mode = size, 0o755 if program else 0o644
        self._tar.addfile(member, content)

    def link(self, path: str, to: str) -> None:
        """Write a symbolic link."""
        member = self._member(path)
        member.type, member.linkname, member.mode = tarfile.SYMTYPE, to, 0o777
        self._tar.addfile(member)

    def folder(self, path: str) -> None:
        """Write a folder and those above it, each once."""
        if path in self._folders or not path:
            return
        self.folder(path.rpartition("/")[0])
        self._folders.add(path)
        member = tarfile.TarInfo(path)
        member.type, member.mode = tarfile.DIRTYPE, 0o755
        self._tar.addfile(member)

    def close(self) -> None:
        """Write the end."""
        self._tar.close()

    def _member(self, path: str) -> tarfile.TarInfo:
        for name in path.split("/"):
            if name in ("", ".", "..") or name.startswith(".wh."):
                raise UserError(
                    f"{path!r} cannot be in an image",
                    hint="names that begin with .wh. mean something else there; rename it",
                )
        self.folder(path.rpartition("/")[0])
        return tarfile.TarInfo(path)


class LayerCache:
    """Layers of one folder, found by their keys; safe for several threads and processes."""

    def __init__(self, folder: Path) -> None:
        """Use a folder, which is made if need be.

        Raises:
            UserError: it cannot be made.
        """
        self._folder = folder
        try:
            for name in (_READY, "blobs", "making"):
                (folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder}: {error.strerror}") from error

    def layers(self, parts: Sequence[Part], told: Callable[[str], None]) -> list[Layer]:
        """Give layers in order; those that are not there are made, several at a time.

        Raises whatever a part's ``fill`` raises; UserError when the disk is full.
        """
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            return list(pool.map(lambda part: self._layer(part, told), parts))

    @staticmethod
    def forget(layer: Layer) -> bool:
        """Look whether a layer's bytes are what they were, and drop it if not; True if dropped."""
        try:
            with layer.path.open("rb") as file:
                found = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            found = ""
        if found == layer.digest:
            return False
        layer.path.unlink(missing_ok=True)
        return True

    @property
    def making(self) -> Path:
        """Give a folder for what layers are made from."""
        return self._folder / "making"

    def _layer(self, part: Part, told: Callable[[str], None]) -> Layer:
        about = f"{_FORMAT} {_LEVEL} {part.key}"
        name = hashlib.sha256(about.encode()).hexdigest()
        note = self._folder / _READY / f"{name}.json"
        if (known := self._known(note, part)) is not None:
            return known
        with _alone(note.with_suffix(".lock")):
            if (known := self._known(note, part)) is not None:
                return known
            told(f"making {part.title}")
            try:
                layer = self._make(part)
                text = {"digest": layer.digest, "inner": layer.inner, "size": layer.size}
                write_note(note, json.dumps(text))
            except OSError as error:
                raise UserError(f"{self._folder}: {error.strerror or error}") from error
        return layer

    def _known(self, note: Path, part: Part) -> Layer | None:
        try:
            data: dict[str, Any] = json.loads(read_note(note))
            path = self._blob(data["digest"])
            if path.stat().st_size != data["size"]:
                return None
            os.utime(path)
            return Layer(data["digest"], data["inner"], data["size"], path, part.title)
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return None

    def _make(self, part: Part) -> Layer:
        aside = self._folder / "blobs" / f"{uuid.uuid4().hex}.part"
        try:
            with aside.open("xb") as file:
                packed = _Packed(file)
                buffered = io.BufferedWriter(packed, _CHUNK)
                tar = Tar(buffered)
                part.fill(tar)
                tar.close()
                buffered.flush()
                packed.finish()
            path = self._blob(packed.digest)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        return Layer(packed.digest, packed.inner, packed.size, path, part.title)

    def _blob(self, digest: str) -> Path:
        return self._folder / "blobs" / digest.removeprefix("sha256:")


class _Packed(io.RawIOBase):
    """Packs what is written to it, and counts it; the header of gzip holds no time and no name."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, 31)
        self._inner, self._outer = hashlib.sha256(), hashlib.sha256()
        self._written = self.size = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, data: Any) -> int:
        self._inner.update(data)
        self._put(self._packer.compress(data))
        self._written += len(data)
        return len(data)

    def finish(self) -> None:
        self._put(self._packer.flush())

    @property
    def digest(self) -> str:
        return f"sha256:{self._outer.hexdigest()}"

    @property
    def inner(self) -> str:
        return f"sha256:{self._inner.hexdigest()}"

    def _put(self, data: bytes) -> None:
        self._outer.update(data)
        self.size += len(data)
        self._out.write(data)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock that ends with the process."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
