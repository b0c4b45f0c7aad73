"""Gives the logs of all attempts of a task in order, to the end or as they grow."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from mlstead.engines.local import attempt

_CHUNK = 1 << 18
_LONGEST_LINE = 1 << 20
# Seconds between two looks at a log that grows: short at first, so that a quick task is quick.
_SHORT, _PAUSE = 0.002, 0.1
_RANK = re.compile(r"log\.(\d+)")


class Source:
    """Where the logs of one task are, and how to know that it has ended."""

    def __init__(
        self, task: Path, is_final: Callable[[], bool], pause: Callable[[float], None]
    ) -> None:
        self.task = task
        self.is_final = is_final
        self.pause = pause


def read(source: Source, rank: int | None, offset: int, follow: bool) -> Iterator[bytes]:
    """Give chunks of the whole output from a byte offset on."""
    for chunk in _all_attempts(source, rank, follow):
        if offset >= len(chunk):
            offset -= len(chunk)
            continue
        yield chunk[offset:] if offset else chunk
        offset = 0


def _all_attempts(source: Source, rank: int | None, follow: bool) -> Iterator[bytes]:
    done: set[int] = set()
    begun = False
    pause = _SHORT
    while True:
        final = source.is_final()
        new = [number for number in attempt.numbers(source.task) if number not in done]
        for number in new:
            if begun:
                yield f"--- attempt {number} ---\n".encode()
            begun = True
            yield from _one_attempt(source, number, rank, follow)
            done.add(number)
        if new:
            continue
        if final or not follow:
            return
        source.pause(pause)
        pause = min(2 * pause, _PAUSE)


def _one_attempt(source: Source, number: int, rank: int | None, follow: bool) -> Iterator[bytes]:
    folder = source.task / str(number)
    tails: dict[int, _Tail] = {}
    pause = _SHORT
    while True:
        ended = not follow or (folder / "end.json").exists()
        for one, path in _files(folder, rank).items():
            if one not in tails:
                tails[one] = _Tail(path, one if rank is None and path.name != "log" else None)
        got = False
        for tail in tails.values():
            for chunk in tail.read():
                got = True
                yield chunk
        if ended:
            for tail in tails.values():
                yield from tail.rest()
            return
        if source.is_final() and not (folder / "end.json").exists():
            return
        pause = _SHORT if got else min(2 * pause, _PAUSE)
        if not got:
            source.pause(pause)


def _files(folder: Path, rank: int | None) -> dict[int, Path]:
    single = folder / "log"
    if single.exists():
        return {0: single} if rank in (None, 0) else {}
    found = {}
    for path in folder.glob("log.*"):
        match = _RANK.fullmatch(path.name)
        if match and rank in (None, int(match[1])):
            found[int(match[1])] = path
    return dict(sorted(found.items()))


class _Tail:
    """Reads one file on from where it was; with a rank, whole lines that name it."""

    def __init__(self, path: Path, rank: int | None) -> None:
        self._path = path
        self._prefix = b"" if rank is None else f"[rank {rank}] ".encode()
        self._offset = 0
        self._line = bytearray()

    def read(self) -> Iterator[bytes]:
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while chunk := os.pread(descriptor, _CHUNK, self._offset):
                self._offset += len(chunk)
                if not self._prefix:
                    yield chunk
                elif lines := self._whole_lines(chunk):
                    yield lines
        finally:
            os.close(descriptor)

    def rest(self) -> Iterator[bytes]:
        if self._line:
            yield self._prefix + bytes(self._line) + b"\n"
            self._line.clear()

    def _whole_lines(self, chunk: bytes) -> bytes:
        self._line += chunk
        end = self._line.rfind(b"\n")
        if end < 0:
            if len(self._line) < _LONGEST_LINE:
                return b""
            # nobody waits for the end of a line as long as that
            end = len(self._line)
        body = bytes(self._line[:end]).replace(b"\n", b"\n" + self._prefix)
        del self._line[: end + 1]
        return self._prefix + body + b"\n"
