"""Reads what pods sent piece by piece: logs of all attempts in order, and metrics."""

import re
import time
from collections.abc import Callable, Iterator
from typing import Final

from mlstead.clients.objects import Objects, Stat

_PIECE: Final = re.compile(r"(\d+)/(\d+)/(\d+)")
_PAUSE: Final = 0.3  # seconds between two looks at a log that grows
_LONGEST_LINE: Final = 1 << 20


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
    tails: dict[tuple[int, int], _Tail] = {}
    attempt = 0
    while True:
        final = is_final()
        found = pieces.find()
        several = len({one for _, one in found}) > 1
        for number in sorted({one for one, _ in found}):
            if number < attempt:
                continue
            if number > attempt:
                yield from _rest(tails)
                if attempt:
                    yield f"--- attempt {number} ---\n".encode()
                attempt = number
            for key in sorted(it for it in found if it[0] == number):
                if rank in (None, key[1]):
                    tail = tails.setdefault(key, _Tail(key[1] if rank is None else None))
                    yield from tail.take(pieces, found[key], several)
        if final or not follow:
            yield from _rest(tails)
            return
        time.sleep(_PAUSE)


def _rest(tails: "dict[tuple[int, int], _Tail]") -> Iterator[bytes]:
    for tail in tails.values():
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
