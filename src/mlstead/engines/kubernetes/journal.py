"""What this laptop was told of tasks in a cluster, in order: the events, and how each task ended.

Events are derived from the cluster's objects, so this is no truth of its own: it gives them an
order that never changes, which cursors are places in. Whoever looks adds what is new under a lock.
"""

import contextlib
import fcntl
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mlstead.engines.base import Phase, Reason, Status, TaskEvent

_SNAPSHOT = 1 << 20  # bytes of news after which a new starting point is written


@dataclass(slots=True)
class _Open:
    """What was told of a task that has not ended: (attempt, phase)."""

    told: set[tuple[int, str]] = field(default_factory=set)


class Journal:
    """The events of one home in one cluster."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "events.jsonl"
        self._pending = folder / "events.pending"
        self._read = 0
        self._open: dict[str, _Open] = {}
        self._loaded = 0

    def size(self) -> int:
        """Give the length of the journal in bytes."""
        try:
            return self._file.stat().st_size
        except FileNotFoundError:
            return 0

    def place(self, cursor: str) -> int:
        """Give the place that a cursor means; the beginning for what is none, such as another's."""
        place = int(cursor) if cursor.isascii() and cursor.isdecimal() and len(cursor) < 19 else 0
        if not 0 < place <= self.size():
            return 0
        with self._file.open("rb") as file:
            file.seek(place - 1)
            return place if file.read(1) == b"\n" else 0

    def events(self, after: str) -> Iterator[TaskEvent]:
        """Give the events behind a cursor."""
        try:
            file = self._file.open("rb")
        except FileNotFoundError:
            return
        with file:
            place = self.place(after)
            file.seek(place)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                place += len(line)
                yield _event(json.loads(line), str(place))

    def open_tasks(self) -> set[str]:
        """Name the tasks that were told of and have not ended, as far as was read."""
        return set(self._open)

    def attempt(self, task_id: str) -> int:
        """Give the last attempt that was told of a task that has not ended."""
        told = self._open[task_id].told if task_id in self._open else set()
        return max((number for number, _ in told), default=1)

    def is_open(self, task_id: str) -> bool:
        """Say whether a task was told of and has not ended."""
        with self.adding():
            return task_id in self._open

    def ended(self, task_id: str) -> dict[str, Any] | None:
        """Give how a task ended: ``status`` and ``request``; None if it has not."""
        try:
            found: dict[str, Any] = json.loads(self._end_file(task_id).read_bytes())
        except (FileNotFoundError, ValueError):  # a power cut leaves empty files
            return None
        return found

    def final(self, task_id: str) -> Status | None:
        """Give the status with which a task ended; None if it has not."""
        found = self.ended(task_id)
        return None if found is None else status_of(found["status"])

    def forget(self, task_id: str) -> None:
        """Drop how a task ended."""
        self._end_file(task_id).unlink(missing_ok=True)

    @contextlib.contextmanager
    def adding(self) -> Iterator["Adding"]:
        """Give the right to add, to one process at a time; what others added is read first."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self._folder / "events.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._catch_up()
            adding = Adding(self._open)
            yield adding
            self._write(adding)
        finally:
            os.close(lock)

    def _catch_up(self) -> None:
        """Learn what is open: from the last starting point, and what came after it."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            self._put(json.loads(self._pending.read_bytes()))  # a process was killed in there
        if not self._read:
            with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
                start = json.loads((self._folder / "events.start").read_bytes())
                if start["place"] <= self.size():
                    self._read = self._loaded = start["place"]
                    self._open = {
                        task: _Open({(number, phase) for number, phase in told})
                        for task, told in start["open"].items()
                    }
        self._mend()
        for event in self.events(str(self._read)) if self.size() > self._read else ():
            self._take(event)
            self._read = int(event.cursor)

    def _mend(self) -> None:
        """Cut off the line that a killed process left half written."""
        with contextlib.suppress(FileNotFoundError), self._file.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            back = min(size, 1 << 16)
            file.seek(size - back)
            tail = file.read()
            if tail and not tail.endswith(b"\n"):
                file.truncate(size - back + tail.rfind(b"\n") + 1)

    def _take(self, event: TaskEvent) -> None:
        if event.phase.final and not event.retried:
            self._open.pop(event.task_id, None)
            return
        self._open.setdefault(event.task_id, _Open()).told.add((event.attempt, str(event.phase)))

    def _write(self, adding: "Adding") -> None:
        if not adding.new:
            return
        ends = {
            event.task_id: {
                "status": asdict(event.status),
                "request": adding.requests[event.task_id],
            }
            for event in adding.new
            if event.phase.final and not event.retried
        }
        lines = "".join(json.dumps(_plain(event)) + "\n" for event in adding.new)
        content = {"place": self.size(), "lines": lines, "ends": ends}
        if ends:  # all of it or nothing: who is told of an end must find it, and the other way
            self._keep(self._pending, content)
        self._put(content)
        for event in adding.new:
            self._take(event)
        self._read = self.size()
        if self._read - self._loaded > _SNAPSHOT:
            told = {task: sorted(it.told) for task, it in self._open.items()}
            self._keep(self._folder / "events.start", {"place": self._read, "open": told})
            self._loaded = self._read

    def _put(self, content: Mapping[str, Any]) -> None:
        """Write what is new, however much of it was written before."""
        lines = content["lines"].encode()
        with self._file.open("a+b") as file:
            file.seek(content["place"])
            if file.read() != lines:
                file.truncate(content["place"])
                file.write(lines)
        for task, end in content["ends"].items():
            self._keep(self._end_file(task), end)
        if content["ends"]:
            self._pending.unlink(missing_ok=True)

    def _keep(self, path: Path, content: Mapping[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
        aside.write_text(json.dumps(content), encoding="utf-8")
        aside.replace(path)

    def _end_file(self, task_id: str) -> Path:
        return self._folder / "ended" / task_id[-2:] / f"{task_id}.json"


class Adding:
    """Collects what is new; one process at a time."""

    def __init__(self, known: Mapping[str, _Open]) -> None:
        self._known = known
        self.new: list[TaskEvent] = []
        self.requests: dict[str, str] = {}

    def add(self, events: list[TaskEvent], request: str) -> bool:
        """Add those events of one task that were not told yet; say whether it has ended.

        What comes before the last that was told is not told any more, but for the end: it may be
        seen of an earlier attempt where the pods of the last are gone, and belongs to the last.
        """
        task = events[0].task_id
        told = self._known[task].told if task in self._known else set()
        self.requests[task] = request
        last = max(((number, _order(phase)) for number, phase in told), default=(0, 0))
        ended = False
        for event in events:
            ends = event.phase.final and not event.retried
            if (event.attempt, _order(event.phase)) > last:
                self.new.append(event)
            elif ends:
                self.new.append(_moved(event, last[0]))
            ended = ended or ends
        return ended


def _order(phase: str) -> int:
    """Number the phases in the order in which an attempt has them; its ends are one."""
    return list(Phase).index(Phase.SUCCEEDED if Phase(phase).final else Phase(phase))


def _moved(event: TaskEvent, attempt: int) -> TaskEvent:
    return replace(event, attempt=attempt, status=replace(event.status, attempt=attempt))


def _plain(event: TaskEvent) -> dict[str, Any]:
    return {
        "task": event.task_id, "attempt": event.attempt, "phase": str(event.phase),
        "time": event.time, "status": asdict(event.status), "retried": event.retried,
    }  # fmt: skip


def _event(line: Mapping[str, Any], cursor: str) -> TaskEvent:
    return TaskEvent(
        line["task"], line["attempt"], Phase(line["phase"]), line["time"],
        status_of(line["status"]), cursor, line["retried"],
    )  # fmt: skip


def status_of(fields: Mapping[str, Any]) -> Status:
    """Read a status that was written as plain data."""
    reason = fields.get("reason")
    typed = {
        "phase": Phase(fields["phase"]),
        "reason": Reason(reason) if reason else None,
        "hosts": tuple(fields.get("hosts", ())),
    }
    return Status(**{**fields, **typed})
