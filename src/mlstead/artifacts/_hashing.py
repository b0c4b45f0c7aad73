"""Reads bytes once: hashes them twice, and copies them if asked, at the speed of the md5."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from mlstead.artifacts._walk import Found
from mlstead.errors import UserError

SMALL = 4 << 20
"""Files up to this many bytes are read whole."""

_CHUNK = 256 << 10
_BUFFERS = 16
_FLUSH = 128 << 20
_FICLONE = 0x40049409
_NO_CLONE = {errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM}

Told = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Hashes:
    """Both hashes of a file's bytes, and how many bytes there were."""

    md5: str
    sha256: str
    size: int


def of_bytes(content: bytes) -> Hashes:
    """Hash bytes that are in memory."""
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return Hashes(md5, hashlib.sha256(content, usedforsecurity=False).hexdigest(), len(content))


def sha256_of(path: str) -> str:
    """Give the identity of a file's bytes, several times as fast as both hashes.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
        return _sha256(file.fileno(), None)


def copy_checked(source: str, target: str) -> str:
    """Copy a file to a new one; give the identity of the bytes that were written.

    Raises:
        OSError: it cannot be read or written, or the target exists.
    """
    with open(source, "rb", buffering=0) as reader, open(target, "xb", buffering=0) as writer:  # noqa: PTH123
        if not clone(reader.fileno(), writer.fileno()):
            return _sha256(reader.fileno(), writer.fileno())
    return sha256_of(target)


def _sha256(reader: int, writer: int | None) -> str:
    sha256 = hashlib.sha256(usedforsecurity=False)
    buffer = bytearray(min(_CHUNK, os.fstat(reader).st_size + 1))
    while count := os.readv(reader, [buffer]):
        view = memoryview(buffer)[:count]
        if writer is not None:
            _write_all(writer, view)
        sha256.update(view)
    return sha256.hexdigest()


def of_file(path: str, told: Told | None = None) -> Hashes:
    """Hash a file, reading it once.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb", buffering=0) as source:  # noqa: PTH123 raw, and many thousand times
        return _stream(source.fileno(), None, told or _nobody)


def copy(source: str, target: str, told: Told | None = None) -> Hashes:
    """Copy a file to a new one and hash what was written, in one pass and safe on disk.

    Raises:
        OSError: it cannot be read or written, or the target exists.
    """
    with open(source, "rb", buffering=0) as reader, open(target, "xb", buffering=0) as writer:  # noqa: PTH123
        if clone(reader.fileno(), writer.fileno()):
            return _stream(writer.fileno(), None, told or _nobody, source=target)
        return _stream(reader.fileno(), writer.fileno(), told or _nobody)


def same(path: str, wanted: bytes | str) -> bool:
    """Say whether a file has these bytes, or those of the file of that name.

    Raises:
        FileNotFoundError: there is no such file.
    """
    try:
        with open(path, "rb", buffering=0) as found:  # noqa: PTH123 many thousand times
            if isinstance(wanted, bytes):
                return _read_all(found.fileno(), len(wanted)) == wanted
            with open(wanted, "rb", buffering=0) as other:  # noqa: PTH123
                return _equal(found.fileno(), other.fileno())
    except FileNotFoundError:
        raise
    except OSError:
        return False  # what the disk cannot read any more is damaged


def _equal(one: int, two: int) -> bool:
    if os.fstat(one).st_size != os.fstat(two).st_size:
        return False
    left, right = bytearray(_CHUNK), bytearray(_CHUNK)
    while count := os.readv(one, [left]):
        if os.readv(two, [right]) != count or left != right:
            return False
    return True


def clone(reader: int, writer: int) -> bool:
    """Let two files share their bytes until one is changed, where the disk can do that."""
    try:
        fcntl.ioctl(writer, _FICLONE, reader)
    except OSError as error:
        if error.errno not in _NO_CLONE:
            raise
        return False
    return True


def unchanged(found: Found, hashes: Hashes, before: os.stat_result) -> None:
    """Make sure that a file did not change while it was read.

    Raises:
        UserError: it did, or its md5 is not the promised one.
    """
    now = os.stat(found.real)  # noqa: PTH116 many thousand times
    if (now.st_mtime_ns, now.st_size) != (before.st_mtime_ns, hashes.size):
        raise UserError(
            f"{found.path}: changed while it was read", hint="try again when nothing writes to it"
        )
    if found.md5 and hashes.md5 != found.md5 and not (found.legacy and _legacy(found)):
        raise UserError(f"{found.path}: its bytes are not those of {found.md5}: it is corrupt")


def _legacy(found: Found) -> bool:
    """DVC before 3 took the md5 of text with line ends made uniform."""
    md5 = hashlib.md5(usedforsecurity=False)
    held = b""
    with open(found.real, "rb") as file:  # noqa: PTH123
        while chunk := file.read(_CHUNK):
            chunk = held + chunk
            held = b"\r" if chunk.endswith(b"\r") else b""
            md5.update(chunk[: len(chunk) - len(held)].replace(b"\r\n", b"\n"))
    md5.update(held)
    return md5.hexdigest() == found.md5


def _nobody(_count: int) -> None:
    """Nobody wants to know."""


def _stream(reader: int, writer: int | None, told: Told, source: str = "") -> Hashes:
    if source:
        with open(source, "rb", buffering=0) as again:  # noqa: PTH123 the clone, to hash it
            return _stream(again.fileno(), None, told)
    size = os.fstat(reader).st_size
    if size <= SMALL:
        content = _read_all(reader, size)
        if writer is not None:
            _write_all(writer, memoryview(content))
        told(len(content))
        return of_bytes(content)
    return _Pass(reader, writer, told).run()


def _read_all(reader: int, size: int) -> bytes:
    pieces = []
    while piece := os.read(reader, max(size + 1, 65536)):
        pieces.append(piece)
        size -= len(piece)
        if size < 0:
            break  # it grew; the caller sees that by its size
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _write_all(writer: int, view: memoryview) -> None:
    while view:
        view = view[os.write(writer, view) :]


class _Pass:
    """One pass over a large file: md5 in a second thread, the rest in this one.

    md5 is the slowest part, so it has a core of its own; reading, writing and sha256 share the
    other. A third thread has the disk write early, so that the last flush is short.
    """

    def __init__(self, reader: int, writer: int | None, told: Told) -> None:
        self.reader, self.writer, self.told = reader, writer, told
        self.md5 = hashlib.md5(usedforsecurity=False)
        self.sha256 = hashlib.sha256(usedforsecurity=False)
        self.free: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
        self.full: queue.SimpleQueue[tuple[bytearray, int] | None] = queue.SimpleQueue()
        self.flush: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def run(self) -> Hashes:
        for _ in range(_BUFFERS):
            self.free.put(bytearray(_CHUNK))
        threads = [threading.Thread(target=self._md5)]
        if self.writer is not None:
            threads.append(threading.Thread(target=self._flush))
        for thread in threads:
            thread.start()
        try:
            done = self._read()
        finally:
            self.full.put(None)
            self.flush.put(False)
            for thread in threads:
                thread.join()
        return Hashes(self.md5.hexdigest(), self.sha256.hexdigest(), done)

    def _read(self) -> int:
        done = 0
        while True:
            buffer = self.free.get()  # only this thread fills buffers, so none is reused too soon
            count = os.readv(self.reader, [buffer])
            if not count:
                return done
            view = memoryview(buffer)[:count]
            self.full.put((buffer, count))
            if self.writer is not None:
                _write_all(self.writer, view)
                if done // _FLUSH != (done + count) // _FLUSH:
                    self.flush.put(True)
            self.sha256.update(view)
            done += count
            self.told(count)

    def _md5(self) -> None:
        while (item := self.full.get()) is not None:
            buffer, count = item
            self.md5.update(memoryview(buffer)[:count])
            self.free.put(buffer)

    def _flush(self) -> None:
        while self.flush.get():
            with suppress(OSError):  # the last flush, in the caller's thread, tells
                os.fdatasync(-1 if self.writer is None else self.writer)
