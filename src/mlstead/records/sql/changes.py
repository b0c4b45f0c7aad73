"""Writes changes, each inside the transaction of its commit."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from mlstead.errors import ConflictError, NotFoundError, UserError
from mlstead.records.base import (
    FINAL,
    AddCache,
    AddEvents,
    AddLinks,
    AddPoints,
    AddRun,
    AddVersion,
    Change,
    DropVersion,
    Lease,
    PutOutgoing,
    Run,
    SetAlias,
    SetCursor,
    SetRun,
    State,
    to_json,
)
from mlstead.records.sql import metrics
from mlstead.records.sql.database import Session
from mlstead.records.sql.driver import Value
from mlstead.records.sql.rows import LINK, OUTGOING, RUN

_FINAL = ", ".join(f"'{state}'" for state in sorted(FINAL))
_FIELDS = tuple(field.name for field in fields(Run))
_SETTABLE = frozenset(_FIELDS) - {"id", "number", "token"}
_MAPPINGS = frozenset({"spec", "request", "params", "labels", "values", "extra", "status"})
_RUN_MARKS = ", ".join("?" * (RUN.count(",") + 1))


def check_fence(session: Session, lease: Lease) -> None:
    """Refuse a lease that somebody else has taken since."""
    rows = session.all("SELECT holder, fence FROM leases WHERE run_id = ?", lease.run_id)
    if not rows or rows[0] != (lease.holder, lease.fence):
        raise ConflictError(
            f"run {lease.run_id}: another process drives it now",
            hint="nothing was written; this driver must end",
        )


def apply(session: Session, change: Change) -> None:
    """Write one change."""
    try:
        _WRITERS[type(change)](session, change)
    except session.driver.errors as error:
        if not session.driver.missing_run(error):
            raise
        raise NotFoundError(
            f"{type(change).__name__}: no such run: {_runs_of(change)}",
            hint="a run is recorded before anything of it",
        ) from error


def _runs_of(change: Any) -> str:
    """Name the runs a change is about, a few of them."""
    parts = [part for name in ("events", "points", "links") for part in getattr(change, name, ())]
    found = list(dict.fromkeys(part.run_id for part in parts))
    return ", ".join(found[:3]) + (" …" if len(found) > 3 else "")


def _value(name: str, value: Any) -> Value:
    """Write one field of a run as its column has it."""
    if name in _MAPPINGS:
        return to_json(value)
    if name == "state":
        return State(value).value
    return int(value) if isinstance(value, bool) else value


def _add_run(session: Session, change: AddRun) -> None:
    run = change.run
    number = session.count("runs", 1)
    given = {name: getattr(run, name) for name in _FIELDS}
    given |= {"number": number, "created": run.created or session.now, "token": run.token or None}
    values = [_value(name, value) for name, value in given.items()]
    added = session.change(
        f"INSERT INTO runs ({RUN}) VALUES ({_RUN_MARKS}) ON CONFLICT DO NOTHING", *values
    )
    if added:
        return
    if session.all("SELECT 1 FROM runs WHERE id = ?", run.id):
        raise ConflictError(f"run {run.id} exists already", hint="choose another id")
    raise ConflictError(f"run {run.id}: its token belongs to another run", hint="use that run")


def _set_run(session: Session, change: SetRun) -> None:
    if refused := change.fields.keys() - _SETTABLE:
        raise ValueError(f"not to be set on a run: {', '.join(sorted(refused))}")
    names = ['"' + name + '" = ?' for name in change.fields] or ["id = id"]
    guard = f" AND state NOT IN ({_FINAL})" if change.unless_final else ""
    values = [_value(name, value) for name, value in change.fields.items()]
    changed = session.change(
        f"UPDATE runs SET {', '.join(names)} WHERE id = ?{guard}", *values, change.run_id
    )
    if not changed and not session.all("SELECT 1 FROM runs WHERE id = ?", change.run_id):
        raise NotFoundError(f"no run {change.run_id}")


def _add_events(session: Session, change: AddEvents) -> None:
    session.change_many(
        "INSERT INTO events (run_id, name, time, attempt, data) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (run_id, attempt, name) DO NOTHING",
        ((e.run_id, e.name, e.time, e.attempt, to_json(e.data)) for e in change.events),
    )


def _add_points(session: Session, change: AddPoints) -> None:
    metrics.add(session, change.points)


def _set_cursor(session: Session, change: SetCursor) -> None:
    if change.was:
        moved = session.change(
            "UPDATE cursors SET value = ? WHERE name = ? AND value = ?",
            change.value,
            change.name,
            change.was,
        )
    else:
        moved = session.change(
            "INSERT INTO cursors (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE "
            "SET value = excluded.value WHERE cursors.value = ''",
            change.name,
            change.value,
        )
    if not moved:
        raise ConflictError(f"cursor {change.name} was moved by another process")


def last_number(session: Session, project: str, kind: str, name: str) -> int:
    """Give the highest number that a version of this name ever had."""
    rows = session.all(
        "SELECT last FROM version_names WHERE project = ? AND kind = ? AND name = ?",
        project,
        kind,
        name,
    )
    return int(rows[0][0]) if rows else 0


def _add_version(session: Session, change: AddVersion) -> None:
    it = change.version
    name = (it.project, it.kind, it.name)
    last = last_number(session, *name)
    if it.number != last + 1:
        raise ConflictError(
            f"{it.kind} {it.name}@{it.number}: the next number is {last + 1}",
            hint="somebody else added a version meanwhile; try again",
        )
    session.change(
        "INSERT INTO version_names (project, kind, name, last) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (project, kind, name) DO UPDATE SET last = excluded.last",
        *name,
        it.number,
    )
    session.change(
        "INSERT INTO versions (project, kind, name, number, digest, size, files, run_id, output, "
        "created, source, meta) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        *(*name, it.number, it.digest, it.size, it.files, it.run_id, it.output),
        *(it.created or session.now, it.source, to_json(it.meta)),
    )
    for alias in it.aliases:
        _set_alias(session, SetAlias(*name, alias, it.number))


def _set_alias(session: Session, change: SetAlias) -> None:
    place = (change.project, change.kind, change.name)
    if not change.number:
        session.change(
            "DELETE FROM aliases WHERE project = ? AND kind = ? AND name = ? AND alias = ?",
            *place,
            change.alias,
        )
        return
    if not change.alias or change.alias.isdigit():
        raise UserError(f"{change.name}: an alias needs a letter, not {change.alias!r}")
    added = session.change(
        "INSERT INTO aliases (project, kind, name, alias, number) "
        "SELECT project, kind, name, ?, number FROM versions "
        "WHERE project = ? AND kind = ? AND name = ? AND number = ? "
        "ON CONFLICT (project, kind, name, alias) DO UPDATE SET number = excluded.number",
        change.alias,
        *place,
        change.number,
    )
    if not added:
        raise NotFoundError(f"no {change.kind} {change.name}@{change.number}")


def _drop_version(session: Session, change: DropVersion) -> None:
    place = (change.project, change.kind, change.name, change.number)
    where = "WHERE project = ? AND kind = ? AND name = ? AND number = ?"
    session.change(f"DELETE FROM aliases {where}", *place)
    if not session.change(f"DELETE FROM versions {where}", *place):
        raise NotFoundError(f"no {change.kind} {change.name}@{change.number}")


def _add_links(session: Session, change: AddLinks) -> None:
    session.change_many(
        f"INSERT INTO links ({LINK}) VALUES (?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (run_id, direction, slot) DO UPDATE SET kind = excluded.kind, "
        "digest = excluded.digest, ref = excluded.ref, partial = excluded.partial",
        (
            (it.run_id, it.direction, it.slot, it.kind, it.digest, it.ref, int(it.partial))
            for it in change.links
        ),
    )


def _add_cache(session: Session, change: AddCache) -> None:
    entry = change.entry
    session.change(
        'INSERT INTO cache ("key", run_id, created) VALUES (?, ?, ?) ON CONFLICT ("key") '
        "DO UPDATE SET run_id = excluded.run_id, created = excluded.created "
        "WHERE cache.created < ?",
        *(entry.key, entry.run_id, entry.created or session.now, change.stale_before),
    )


def _put_outgoing(session: Session, change: PutOutgoing) -> None:
    it = change.message
    session.change(
        f"INSERT INTO outgoing ({OUTGOING}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (id) DO UPDATE SET tries = excluded.tries, next_try = excluded.next_try, "
        "state = excluded.state, error = excluded.error "
        "WHERE outgoing.state = 'waiting' AND excluded.tries >= outgoing.tries",
        *(it.id, it.run_id, it.to, it.text, it.created or session.now),
        *(it.tries, it.next_try, it.state, it.error),
    )


_WRITERS: dict[type, Callable[[Session, Any], None]] = {
    AddRun: _add_run,
    SetRun: _set_run,
    AddEvents: _add_events,
    AddPoints: _add_points,
    SetCursor: _set_cursor,
    AddVersion: _add_version,
    SetAlias: _set_alias,
    DropVersion: _drop_version,
    AddLinks: _add_links,
    AddCache: _add_cache,
    PutOutgoing: _put_outgoing,
}
