"""Reads what pods sent piece by piece: logs of all attempts in order, and metrics."""

import re
import time
from collections.abc import Callable, Iterator
from typing import Final

from mlstead.clients.objects import Objects, Stat
from mlstead.errors import UnavailableError

_PIECE: Final = re.compile(r"(\d+)/(\d+)/(\d+)")
_PAUSE: Final = 0.3  # seconds between two looks at a log that grows
_LONGEST_LINE: Final = 1 << 20
_PATIENCE: Final = 60.0  # seconds that a store may be away while somebody follows a log


class Pieces:
    """The pieces of one kind (``log`` or ``metrics``) of one task."""

    def __init__(self, objects: Objects, prefix: str, kind: str) -> None:
        self._objects = objects
        self._prefix = f"{prefix}{kind}/"

    def find(self, below: str = "") -> dict[tuple[int, int], list[tuple[int, Stat]]]:
        """Give the pieces by attempt and rank: the offset of each, and its object."""
        found: dict[tuple[int, int], list[tuple[int, Stat]]] = {}
        for stat in self._objects.list(f"{self._prefix}{below}"):
            match = _PIECE.fullmatch(stat.key.removeprefix(self._prefix))
            if match:
                key = (int(match[1]), int(match[2]))
                found.setdefault(key, []).append((int(match[3]), stat))
        return found

    def read(self, attempt: int, rank: int, offset: int, limit: int) -> bytes:
        """Give bytes of one stream from an offset on, up to the first that is not there (yet)."""
        parts = []
        found = self.find(f"{attempt}/{rank}/").get((attempt, rank), [])
        for start, stat in sorted(found, key=lambda it: it[0]):
            if start > offset or limit <= 0:
                break
            first = offset - start
            wanted = min(stat.size - first, limit)
            if wanted > 0:
                parts.append(self._objects.get(stat.key, first, wanted))
                offset += wanted
                limit -= wanted
        return b"".join(parts)

    def content(self, stat: Stat, first: int) -> bytes:
        """Give what one piece has from a byte on."""
        return self._objects.get(stat.key, first)


def logs(
    pieces: Pieces, is_final: Callable[[], bool], rank: int | None, offset: int, follow: bool
) -> Iterator[bytes]:
    """Give chunks of the whole output from a byte offset on."""
    for chunk in _all(pieces, is_final, rank, follow):
        if offset >= len(chunk):
            offset -= len(chunk)
            continue
        yield chunk[offset:] if offset else chunk
        offset = 0


def _all(
    pieces: Pieces, is_final: Callable[[], bool], rank: int | None, follow: bool
) -> Iterator[bytes]:
    """Give the output of all attempts in order; of several ranks, whole lines that name them."""
    reading, troubled = _Reading(pieces, rank), 0.0
    while True:
        final = not follow or is_final()
        try:
            yield from reading.go_on()
            troubled = 0.0
        except UnavailableError:
            troubled = troubled or time.monotonic()
            if not follow or time.monotonic() - troubled > _PATIENCE:
                raise
            final = False  # what was not read yet is there when the store is back
        if final:
            yield from reading.rest()
            return
        time.sleep(_PAUSE)


class _Reading:
    """How far the output of a task was read."""

    def __init__(self, pieces: Pieces, rank: int | None) -> None:
        self._pieces, self._rank = pieces, rank
        self._tails: dict[tuple[int, int], _Tail] = {}
        self._attempt = 0

    def go_on(self) -> Iterator[bytes]:
        """Give what is new."""
        found = self._pieces.find()
        several = len({one for _, one in found}) > 1
        for number in sorted({one for one, _ in found}):
            if number < self._attempt:
                continue
            if number > self._attempt:
                yield from self.rest()
                if self._attempt:
                    yield f"--- attempt {number} ---\n".encode()
                self._attempt = number
            for key in sorted(it for it in found if it[0] == number):
                if self._rank in (None, key[1]):
                    new = _Tail(key[1] if self._rank is None else None)
                    tail = self._tails.setdefault(key, new)
                    yield from tail.take(self._pieces, found[key], several)

    def rest(self) -> Iterator[bytes]:
        """Give what was kept back of lines that did not end."""
        for tail in self._tails.values():
            yield from tail.rest()


class _Tail:
    """One rank's log, read on from where it was; with a rank, whole lines that name it."""

    def __init__(self, rank: int | None) -> None:
        self._name = b"" if rank is None else f"[rank {rank}] ".encode()
        self._at = 0
        self._left = b""
        self._named = False

    def take(self, pieces: Pieces, found: list[tuple[int, Stat]], several: bool) -> Iterator[bytes]:
        self._named = self._named or (several and bool(self._name))
        for start, stat in sorted(found, key=lambda it: it[0]):
            if start > self._at:
                return  # what comes before it is still on its way
            if start + stat.size <= self._at:
                continue
            data = pieces.content(stat, self._at - start)
            self._at += len(data)
            if not self._named:
                yield data
                continue
            *lines, self._left = (self._left + data).split(b"\n")
            if lines:
                yield b"".join(self._name + line + b"\n" for line in lines)
            if len(self._left) > _LONGEST_LINE:
                yield from self.rest()

    def rest(self) -> Iterator[bytes]:
        if self._left:
            yield self._name + self._left + b"\n"
            self._left = b""
