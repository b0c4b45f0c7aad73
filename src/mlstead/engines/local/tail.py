"""Reads the journal on, again and again: its last file stays open, and nothing is read twice."""

import contextlib
import json
import os
import threading
from itertools import islice
from pathlib import Path
from typing import Any

from mlstead.engines.local import journal

News = list[tuple[dict[str, Any], str]]
_CHUNK = 16 << 10  # a larger buffer costs more than what is mostly read
_MANY = 500  # events


class Tail:
    """Reads what stands behind a cursor; for any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mutex = threading.Lock()
        self._number = 0
        self._descriptor = -1
        self._ahead: tuple[str, News] = ("", [])

    def __del__(self) -> None:
        self._open(0)

    def holds(self, cursor: str) -> bool:
        """Say whether anything stands behind a cursor; what was found is kept for ``read``."""
        with self._mutex:
            news = self._read(cursor)
            self._ahead = (cursor, news)
        return bool(news)

    def read(self, cursor: str) -> News:
        """Give events behind a cursor, each with the cursor just behind it; [] at the end only."""
        with self._mutex:
            (was, news), self._ahead = self._ahead, ("", [])
            return news if news and was == cursor else self._read(cursor)

    def close(self) -> None:
        """Let the file go; the next ``read`` opens it again."""
        with self._mutex:
            self._open(0)

    def _read(self, cursor: str) -> News:
        number, offset = journal.parse(cursor)
        if number and number == self._number:
            data = os.pread(self._descriptor, _CHUNK, max(0, offset - 1))
            if data == b"\n" and self._is_last():
                return []
            if data[:1] == b"\n" and (news := self._events(data[1:], offset)):
                return news
        news = list(islice(journal.read(self._folder, cursor), _MANY))
        self._open(journal.parse(news[-1][1] if news else cursor)[0])
        return news

    def _events(self, data: bytes, offset: int) -> News:
        news: News = []
        for line in data.split(b"\n")[:-1]:
            offset += len(line) + 1
            # a line that a power cut left unreadable says nothing; its event is written again
            with contextlib.suppress(ValueError):
                news.append((json.loads(line), f"{self._number}.{offset}"))
        return news

    def _is_last(self) -> bool:
        """Say whether the open file is there still, and no other begins after it."""
        there = os.fstat(self._descriptor).st_nlink > 0
        return there and not os.path.exists(self._path(self._number + 1))  # noqa: PTH110 quicker

    def _open(self, number: int) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._number, self._descriptor = 0, -1
        if number:
            with contextlib.suppress(FileNotFoundError):
                self._descriptor = os.open(self._path(number), os.O_RDONLY | os.O_CLOEXEC)
                self._number = number

    def _path(self, number: int) -> str:
        return f"{self._folder}/{number:06}"
