"""Hashes many files at a time, with progress."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from mlstead.artifacts._hashing import SMALL, Hashes, Told, unchanged
from mlstead.artifacts._walk import Found
from mlstead.artifacts.base import Entry, Progress

_THREADS = min(4, os.cpu_count() or 1)
_TINY = 64 << 10

Work = Callable[[Found, Told], Hashes]
"""Hashes one file, and does with its bytes what the store wants."""


def take_in(found: Sequence[Found], work: Work, progress: Progress | None) -> list[Entry]:
    """Do the work on every file; the first failure stops the rest.

    Raises:
        UserError: a file changed while it was read, or does not have its promised md5.
        OSError: a file cannot be read, or the store cannot be written.
    """
    told = _teller(sum(file.size for file in found), progress)

    def one(file: Found) -> Entry:
        before = os.stat(file.real)  # noqa: PTH116 many thousand times
        hashes = work(file, told)
        unchanged(file, hashes, before)
        return Entry(file.path, hashes.size, hashes.md5, hashes.sha256, file.executable)

    if len(found) == 1:
        return [one(found[0])]
    with ThreadPoolExecutor(_THREADS) as pool:
        todo = [
            pool.submit(lambda part: [one(file) for file in part], part) for part in _parts(found)
        ]
        try:
            return [entry for done in todo for entry in done.result()]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _parts(found: Sequence[Found]) -> Iterator[list[Found]]:
    """Cut the files into parts of some MiB; all tiny ones are one part.

    A tiny file is all system calls and interpreter: a second thread only gets in the way.
    """
    tiny = [file for file in found if file.size < _TINY]
    if tiny:
        yield tiny
    part: list[Found] = []
    for file in found:
        if file.size < _TINY:
            continue
        part.append(file)
        if sum(other.size for other in part) >= SMALL:
            yield part
            part = []
    if part:
        yield part


def _teller(total: int, progress: Progress | None) -> Told:
    if progress is None:
        return lambda _count: None
    tell, lock, done = progress, threading.Lock(), 0

    def told(count: int) -> None:
        nonlocal done
        with lock:
            done += count
            tell(done, total)

    return told
