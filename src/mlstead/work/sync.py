"""Copies what the engine knows to the records; the only place that does.

Events and the cursor go in one commit, so whoever syncs first wins and nobody copies twice.
Metrics of an attempt are shipped before its end is recorded: who sees the end sees the figures.
"""

import contextlib
import dataclasses
import time
from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from mlstead.engines.base import Phase, Status, TaskEvent
from mlstead.errors import ConflictError, NotFoundError
from mlstead.records.base import (
    AddEvents,
    AddPoints,
    Change,
    Event,
    Point,
    Query,
    Run,
    SetCursor,
    SetRun,
    State,
)
from mlstead.runner import metrics
from mlstead.work import outputs
from mlstead.work.base import Backends
from mlstead.work.ending import ending

BATCH = 500
MANY = 1_000
GATHER_SECONDS = 0.02
_STATUS = tuple(field.name for field in dataclasses.fields(Status))


def cursor_name(backends: Backends) -> str:
    """Name the cursor of an engine's events."""
    return f"engine:{backends.engine.name}"


def sync(backends: Backends) -> str:
    """Copy all new events; give the cursor up to which the records know everything."""
    while True:
        was = backends.store.cursor(cursor_name(backends))
        events = list(islice(backends.engine.events(was), BATCH))
        if not events:
            return was
        with contextlib.suppress(ConflictError):  # another process copied them meanwhile
            _copy(backends, was, events, {})


@dataclasses.dataclass(frozen=True, slots=True)
class News:
    """Events that the records know by now, and the runs that ended with them, as far as known."""

    events: Sequence[TaskEvent]
    ended: Mapping[str, Run]


class Follower:
    """Copies events as they come, for a process that stays and so need not read things twice.

    Args:
        backends: what it copies from and to.
        eager: runs whose own task's events are never kept waiting for others.
    """

    def __init__(self, backends: Backends, eager: Container[str] = ()) -> None:
        self._backends = backends
        self._eager = eager
        self._cursor = backends.store.cursor(cursor_name(backends))
        self._runs: dict[str, Run] = {}

    def news(self, timeout: float) -> News:
        """Wait for events, at most ``timeout`` seconds; give them once the records know them.

        Those that another process copied are given as well, but none that the records lack: its
        run would still look as it was before, and its end would be missed.
        """
        events, ended = self._gather(timeout), dict[str, Run]()
        if not events:
            return News(events, ended)
        try:
            ended = _copy(self._backends, self._cursor, events, self._runs)
        except ConflictError:  # another process copied some of them
            events = self._up_to(sync(self._backends))
        for event in events:
            self._cursor = event.cursor
            if event.phase.final:
                self._runs.pop(event.task_id, None)
        return News(events, ended)

    def expect(self, runs: Iterable[Run]) -> None:
        """Know jobs that were just recorded and sent, which then need not be read."""
        self._runs.update((run.id, run) for run in runs)

    def _gather(self, timeout: float) -> list[TaskEvent]:
        """Wait for events; where none is the end of a task, a moment longer for more of them.

        A task tells within milliseconds that it is queued, starts and runs: one commit for all.
        """
        engine = self._backends.engine
        engine.wait(self._cursor, timeout)
        events = fresh = list(islice(engine.events(self._cursor), BATCH))
        until = time.monotonic() + GATHER_SECONDS
        while events and not self._hurries(fresh) and (left := until - time.monotonic()) > 0:
            engine.wait(events[-1].cursor, left)
            fresh = list(islice(engine.events(events[-1].cursor), BATCH))
            events += fresh
        return events

    def _hurries(self, events: Sequence[TaskEvent]) -> bool:
        return any(event.phase.final or event.task_id in self._eager for event in events)

    def _up_to(self, cursor: str) -> list[TaskEvent]:
        """Read again what lies between our cursor and that of the records."""
        events: list[TaskEvent] = []
        if cursor != self._cursor:
            for event in self._backends.engine.events(self._cursor):
                events.append(event)
                if event.cursor == cursor:
                    break
        return events


def unsent(backends: Backends) -> list[Run]:
    """List jobs that were recorded, and of which the engine has told nothing yet.

    Their process is just sending them, or it was killed before it could.
    """
    query = Query(kind="job", states=(State.QUEUED,), limit=MANY)
    return [run for run in backends.store.runs(query) if run.request and not run.status]


def _copy(
    backends: Backends, was: str, events: Sequence[TaskEvent], runs: dict[str, Run]
) -> dict[str, Run]:
    """Write events down together with the cursor behind them; give the runs that this ended.

    ``runs`` remembers runs and is kept up: from its submission to its end only we change a job.

    Raises:
        ConflictError: another process moved the cursor; nothing was written.
    """
    _read_runs(backends, events, runs)
    changes, states = _batch(backends, events, runs)
    changes.append(SetCursor(cursor_name(backends), was, events[-1].cursor))
    backends.store.commit(changes)
    ended: dict[str, Run] = {}
    for run_id, fields in states.items():
        if runs[run_id].state.final:
            continue  # it was given up, and stays as it was
        runs[run_id] = dataclasses.replace(runs[run_id], **fields)
        if runs[run_id].state.final:
            ended[run_id] = runs[run_id]
    return ended


def _batch(
    backends: Backends, events: Sequence[TaskEvent], runs: Mapping[str, Run]
) -> tuple[list[Change], Mapping[str, Mapping[str, Any]]]:
    """List the changes of some events, and what becomes of each run; the last state counts."""
    ends: list[Change] = []
    told: list[Event] = []
    states: dict[str, dict[str, Any]] = {}
    done: set[str] = set()
    for event in events:
        run = runs.get(event.task_id)
        if run is None:
            continue
        status = {name: getattr(event.status, name) for name in _STATUS}
        data = {key: value for key, value in status.items() if value not in (None, "", ())}
        told.append(Event(run.id, str(event.phase), event.time, event.attempt, data))
        if event.phase.final:
            ship_attempt(backends, run, event.attempt)
        if run.kind != "job":
            continue  # a service's own driver decides what its task's life means
        fields = states.setdefault(run.id, {})
        fields |= _fields(event, status)
        if not event.phase.final or event.retried:
            continue
        if outputs.leaves_nothing(backends, run):
            fields |= {"state": State(str(event.phase)), "ended": event.time}
            ends += ending(run, fields["state"], event.time, fields)
        else:
            fields["state"] = State.FINISHING
            ends.append(SetRun(run.id, fields))
        done.add(run.id)
    changes: list[Change] = [AddEvents(tuple(told))] if told else []
    open_states = [SetRun(key, fields) for key, fields in states.items() if key not in done]
    return [*changes, *ends, *open_states], states


def _fields(event: TaskEvent, status: dict[str, Any]) -> dict[str, Any]:
    fields = {
        "status": status,
        "attempt": event.attempt,
        "reason": str(event.status.reason or ""),
        "detail": event.status.detail,
    }
    if event.phase is Phase.RUNNING and event.attempt == 1:
        fields["started"] = event.time
    if not event.phase.final:
        fields["state"] = State(str(event.phase))
    elif event.retried:
        fields["state"] = State.QUEUED
    return fields


def _read_runs(backends: Backends, events: Iterable[TaskEvent], known: dict[str, Run]) -> None:
    """Read the runs that are not known yet."""
    for task_id in {event.task_id for event in events}.difference(known):
        with contextlib.suppress(NotFoundError):  # a task of our own, such as the driver
            known[task_id] = backends.store.run(task_id)


def ship_attempt(backends: Backends, run: Run, attempt: int) -> int:
    """Copy the metric lines of one attempt that are not in the records yet; give their number."""
    workers = (run.spec.get("workers") or {}) if run.kind == "job" else {}
    ranks = int(workers.get("count", 1)) * _processes(workers)
    return sum(_ship(backends, run.id, attempt, rank) for rank in range(ranks))


def _processes(workers: dict[str, object]) -> int:
    processes = workers.get("processes", 1)
    return processes if isinstance(processes, int) else 1


def _ship(backends: Backends, run_id: str, attempt: int, rank: int) -> int:
    if not backends.engine.metrics(run_id, attempt, rank, 0, limit=1):
        return 0
    name, shipped = f"metrics:{run_id}:{attempt}:{rank}", 0
    while True:
        was = backends.store.cursor(name)
        offset = int(was or 0)
        data = backends.engine.metrics(run_id, attempt, rank, offset)
        data = data[: data.rfind(b"\n") + 1]
        if not data:
            return shipped
        points = tuple(
            Point(run_id, line.name, line.value, line.step, line.time, rank, attempt)
            for line in map(metrics.parse, data.splitlines())
            if line is not None
        )
        try:
            backends.store.commit(
                [AddPoints(points), SetCursor(name, was, str(offset + len(data)))]
            )
        except ConflictError:
            continue
        shipped += len(points)
