"""Copies what the engine knows to the records; the only place that does.

Events and the cursor go in one commit, so whoever syncs first wins and nobody copies twice.
Metrics of an attempt are shipped before its end is recorded: who sees the end sees the figures.
"""

import dataclasses
from collections.abc import Iterable, Sequence
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
_STATUS = tuple(field.name for field in dataclasses.fields(Status))


def cursor_name(backends: Backends) -> str:
    """Name the cursor of an engine's events."""
    return f"engine:{backends.engine.name}"


@dataclasses.dataclass(frozen=True, slots=True)
class Synced:
    """What one call has copied: all events ``after`` a cursor, up to ``cursor``.

    ``after`` is None when others copied some of them, which are then missing here.
    """

    after: str | None
    cursor: str
    events: tuple[TaskEvent, ...]


def sync(backends: Backends) -> Synced:
    """Copy all new events; up to the cursor in the answer the records know everything."""
    copied: list[TaskEvent] = []
    after: str | None = None
    alone = True
    while True:
        was = backends.store.cursor(cursor_name(backends))
        after = was if after is None else after
        events = list(islice(backends.engine.events(was), BATCH))
        if not events:
            return Synced(after if alone else None, was, tuple(copied))
        changes = _batch(backends, events)
        changes.append(SetCursor(cursor_name(backends), was, events[-1].cursor))
        try:
            backends.store.commit(changes)
            copied += events
        except ConflictError:
            alone = False  # another process copied them meanwhile: read on from its cursor


def unsent(backends: Backends) -> list[Run]:
    """List jobs that were recorded, and of which the engine has told nothing yet.

    Their process is just sending them, or it was killed before it could.
    """
    query = Query(kind="job", states=(State.QUEUED,), limit=MANY)
    return [run for run in backends.store.runs(query) if run.request and not run.status]


def _batch(backends: Backends, events: Sequence[TaskEvent]) -> list[Change]:
    """List the changes of some events; of several states of one run only the last is written."""
    runs = _runs(backends, events)
    changes: list[Change] = []
    states: dict[str, dict[str, Any]] = {}
    for event in events:
        run = runs.get(event.task_id)
        if run is None:
            continue
        status = {name: getattr(event.status, name) for name in _STATUS}
        data = {key: value for key, value in status.items() if value not in (None, "", ())}
        changes.append(
            AddEvents((Event(run.id, str(event.phase), event.time, event.attempt, data),))
        )
        if event.phase.final:
            ship_attempt(backends, run, event.attempt)
        if run.kind != "job":
            continue  # a service's own driver decides what its task's life means
        fields = states.setdefault(run.id, {})
        fields |= _fields(event, status)
        if event.phase.final and not event.retried:
            changes += _end(backends, run, event, states.pop(run.id))
    changes += [SetRun(run_id, fields) for run_id, fields in states.items()]
    return changes


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


def _end(backends: Backends, run: Run, event: TaskEvent, fields: dict[str, Any]) -> list[Change]:
    fields.pop("state", None)  # of an earlier event in the same batch
    if outputs.leaves_nothing(backends, run):
        return ending(run, State(str(event.phase)), event.time, fields)
    return [SetRun(run.id, {**fields, "state": State.FINISHING})]


def _runs(backends: Backends, events: Iterable[TaskEvent]) -> dict[str, Run]:
    runs = {}
    for task_id in {event.task_id for event in events}:
        try:
            runs[task_id] = backends.store.run(task_id)
        except NotFoundError:
            continue  # a task of our own, such as the driver
    return runs


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
