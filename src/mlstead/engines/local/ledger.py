"""What the keeper has told: events on their way into the journal, and tasks to forget after."""

import contextlib
from collections.abc import Callable
from typing import Any

from mlstead.engines.local.disk import Home
from mlstead.engines.local.entry import Entry
from mlstead.engines.local.journal import Journal, read


class Ledger:
    """Collects events and writes them together; a task is dropped once its end is written.

    Args:
        home: whose journal it is.
        ring: called after something was written.
    """

    def __init__(self, home: Home, ring: Callable[[], None]) -> None:
        self._home = home
        self._ring = ring
        self._journal = Journal(home.journal)
        self._events: list[dict[str, Any]] = []
        self._finished: list[Entry] = []

    @property
    def busy(self) -> bool:
        """True while something waits to be written."""
        return bool(self._events or self._finished)

    def tell(self, entry: Entry, event: dict[str, Any]) -> None:
        """Add an event, unless it was told before."""
        key = (event["attempt"], event["phase"])
        if key not in entry.written:
            entry.written.add(key)
            self._events.append(event)

    def finish(self, entry: Entry) -> None:
        """Forget a task once all told so far is written."""
        self._finished.append(entry)

    def finishes(self, task_id: str) -> bool:
        """Say whether a task has ended, but is not forgotten yet."""
        return any(entry.task.name == task_id for entry in self._finished)

    def flush(self) -> bool:
        """Write what was told; False when the disk is full and it has to wait."""
        events, self._events = self._events, []
        self._journal.append(events)
        if events:
            self._ring()
        if not self._journal.flush():
            return False
        for entry in self._finished:
            for path in (entry.task / "private.json", self._home.active / entry.task.name):
                with contextlib.suppress(OSError):
                    path.unlink()
        self._finished.clear()
        return True

    def written_since(self, place: tuple[int, int]) -> dict[str, set[tuple[int, str]]]:
        """Give the attempts and phases of each task that the journal tells from a place on."""
        written: dict[str, set[tuple[int, str]]] = {}
        for event, _ in read(self._home.journal, "{}.{}".format(*place)):
            written.setdefault(event["task"], set()).add((event["attempt"], event["phase"]))
        return written
