"""The list of events, oldest first: written by the keeper alone, read by everybody.

A folder of files ``000001``, ``000002`` …, each a JSON line per event. A cursor names the file and
the byte after the last event read. A new file begins after a reboot (the tail of the old one may
not have reached the disk) and when the last one is large.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mlstead.engines.local.disk import boot_id, write_all, write_over

_LARGE = 64 << 20
_CHUNK = 1 << 20


def tail(folder: Path) -> tuple[int, int]:
    """Say where the next event will be written: the number of the file, and the byte."""
    numbers = _numbers(folder)
    if not numbers:
        return (1, 0)
    return (numbers[-1], _size(folder, numbers[-1]))


def parse(cursor: str) -> tuple[int, int]:
    """Read a cursor; anything that is none means the beginning."""
    number, _, offset = cursor.partition(".")
    return (int(number), int(offset)) if number.isdigit() and offset.isdigit() else (0, 0)


def read(folder: Path, cursor: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Give the events after a cursor, each with the cursor just behind it."""
    first, offset = parse(cursor)
    numbers = _numbers(folder)
    if numbers and first > numbers[-1]:
        first, offset = 0, 0
    for number in numbers:
        if number >= first:
            yield from _read_file(folder, number, offset if number == first else 0)


def _read_file(folder: Path, number: int, offset: int) -> Iterator[tuple[dict[str, Any], str]]:
    with _path(folder, number).open("rb") as file:
        if offset and not _between_lines(file.fileno(), offset):
            offset = 0
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            # a line that a power cut left unreadable says nothing; its event is written again
            with contextlib.suppress(ValueError):
                yield json.loads(line), f"{number}.{offset}"


def _between_lines(descriptor: int, offset: int) -> bool:
    return os.pread(descriptor, 1, offset - 1) == b"\n"


def _numbers(folder: Path) -> list[int]:
    try:
        return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())
    except FileNotFoundError:
        return []


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:06}"


def _size(folder: Path, number: int) -> int:
    try:
        return _path(folder, number).stat().st_size
    except FileNotFoundError:
        return 0


class Journal:
    """The writing end; only one process at a time may have it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: list[bytes] = []
        number, size = tail(folder)
        boot = folder / "boot"
        if size > _LARGE or (size and _text(boot) != boot_id()):
            number, size = number + 1, 0
        write_over(boot, boot_id().encode())
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(_path(folder, number), flags, 0o600)
        self._size = self._drop_half_line(size)

    def append(self, events: Sequence[dict[str, Any]]) -> None:
        """Add events; what a full disk refuses is kept and written with a later call."""
        for event in events:
            line = json.dumps(event, separators=(",", ":"), ensure_ascii=False)
            self._waiting.append(line.encode() + b"\n")
        self.flush()

    def flush(self) -> bool:
        """Write what waits; False when it has to wait on."""
        if not self._waiting:
            return True
        data = b"".join(self._waiting)
        try:
            write_all(self._descriptor, data)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            return False
        self._size += len(data)
        self._waiting.clear()
        return True

    def _drop_half_line(self, size: int) -> int:
        end = size
        while end:
            start = max(0, end - _CHUNK)
            found = os.pread(self._descriptor, end - start, start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        if end != size:
            os.ftruncate(self._descriptor, end)
        return end


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
