"""Reads a compressed stream with little memory, and stops where it grows without measure."""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from typing import IO

from mlstead.errors import UserError

_INPUT = 64 << 10
_MEMORY = 256 << 20
_FREE = 256 << 20
_RATIO = 200
HEADERS = 8 << 20
"""Bytes of headers that may stand between two files of an archive."""


class Meter:
    """Counts what an archive gives, and refuses a bomb.

    Args:
        packed: bytes of the archive file.
        limit: bytes it may give in all.
    """

    def __init__(self, packed: int, limit: int) -> None:
        self.limit = limit
        self.by_ratio = max(_FREE, packed * _RATIO)
        self.total = 0

    def count(self, size: int) -> None:
        """Add what was given.

        Raises:
            UserError: it is more than the limit, or than any honest archive of its size gives.
        """
        self.total += size
        if self.total > self.limit:
            raise UserError(f"the archive unpacks to more than {self.limit >> 20} MiB")
        if self.total > self.by_ratio:
            raise UserError(f"the archive unpacks to more than {_RATIO} times its size: refused")


class Inflated(io.RawIOBase):
    """A stream of unpacked bytes: plain, gzip, bzip2 or xz, told by its first bytes.

    ``allowance`` is how many bytes may be read before it is set again.
    """

    def __init__(self, file: IO[bytes], meter: Meter) -> None:
        self.file, self.meter = file, meter
        self.kind = _kind(file)
        self.inflater = self._new()
        self.held = b""
        self.allowance = HEADERS

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Read up to so many bytes; an empty answer is the end.

        Raises:
            EOFError: the stream was cut off.
            UserError: a bomb.
        """
        if size < 0:
            raise ValueError("the size is needed")
        pieces = []
        while size > 0 and (piece := self._some(size)):
            pieces.append(piece)
            size -= len(piece)
        content = b"".join(pieces)
        self.meter.count(len(content))
        self.allowance -= len(content)
        if self.allowance < 0:
            raise UserError("the headers of the archive are too large: refused")
        return content

    def _some(self, size: int) -> bytes:
        while self.inflater is not None:
            if self.inflater.eof:
                rest = self.inflater.unused_data or self.file.read(_INPUT)
                if not rest.strip(b"\0"):
                    return b""
                self.inflater, self.held = self._new(), rest
            elif not self.held and self._hungry():
                self.held = self.file.read(_INPUT)
                if not self.held:
                    raise EOFError("cut off")
            piece = self._inflate(size)
            if piece:
                return piece
        return self.file.read(size)

    def _hungry(self) -> bool:
        return bool(getattr(self.inflater, "needs_input", True))

    def _inflate(self, size: int) -> bytes:
        content, self.held = self.held, b""
        if isinstance(self.inflater, _Gzip):
            piece = self.inflater.decompress(content, size)
            self.held = self.inflater.rest
            return piece
        assert self.inflater is not None
        return bytes(self.inflater.decompress(content, size))

    def _new(self) -> _Gzip | bz2.BZ2Decompressor | lzma.LZMADecompressor | None:
        if self.kind == "gz":
            return _Gzip()
        if self.kind == "bz2":
            return bz2.BZ2Decompressor()
        return lzma.LZMADecompressor(memlimit=_MEMORY) if self.kind == "xz" else None


class _Gzip:
    """A gzip member, with the manners of the other two."""

    needs_input = True

    def __init__(self) -> None:
        self.inner = zlib.decompressobj(wbits=31)
        self.rest = b""

    @property
    def eof(self) -> bool:
        return self.inner.eof

    @property
    def unused_data(self) -> bytes:
        return self.inner.unused_data

    def decompress(self, content: bytes, size: int) -> bytes:
        piece = self.inner.decompress(content, size)
        self.rest = self.inner.unconsumed_tail
        return piece


def _kind(file: IO[bytes]) -> str:
    start = file.read(6)
    file.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return "gz"
    if start.startswith(b"BZh"):
        return "bz2"
    return "xz" if start == b"\xfd7zXZ\0" else ""
