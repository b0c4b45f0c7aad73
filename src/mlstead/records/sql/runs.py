"""Reads runs: lists, look-ups by name, counts."""

import difflib
from collections.abc import Mapping, Sequence

from mlstead.errors import ConflictError, NotFoundError
from mlstead.records.base import FINAL, Query, Run, State
from mlstead.records.sql.database import Session
from mlstead.records.sql.driver import Value
from mlstead.records.sql.rows import RUN, run

_OPEN = tuple(state for state in State if state not in FINAL)
_DRIVEN = (  # the same as is_driven
    "kind <> 'site' AND (kind <> ? OR state = 'finishing'"
    " OR (state = 'starting' AND request = '{}')"
    " OR (state = 'pending' AND (parent = '' OR stop <> 0)))"
)
_LAST = "\U0010ffff"  # sorts after everything a name may hold
_SHOWN = 5


def listed(session: Session, query: Query) -> list[Run]:
    """List runs, newest first, or children oldest first."""
    children = query.parent not in (None, "", "*")
    where, values = _conditions(query)
    only_open = query.open or query.driven
    states = [state for state in query.states or tuple(State) if not only_open or state in _OPEN]
    if not states:
        return []
    if len(states) < len(State):
        where.append(f"state IN ({', '.join('?' * len(states))})")
        values += states
    # Few runs are open: the plus makes SQLite sort those, not walk all runs in their order.
    number = "+number" if set(states) <= set(_OPEN) else "number"
    rows = session.all(
        f"SELECT {RUN} FROM runs"
        + (f" WHERE {' AND '.join(where)}" if where else "")
        + f" ORDER BY {number} {'ASC' if children else 'DESC'}"
        + (" LIMIT ?" if query.limit else ""),
        *values,
        *([query.limit] if query.limit else []),
    )
    return [run(row) for row in rows]


def _conditions(query: Query) -> tuple[list[str], list[Value]]:
    """Write what a query asks for, but for the state, as conditions and their values."""
    given: dict[str, Value] = {
        f"{name} = ?": wanted
        for name in ("project", "kind", "name", "code")
        if (wanted := getattr(query, name))
    }
    if query.parent != "*":
        given["parent = ?"] = query.parent or ""
    if query.driven:
        given[_DRIVEN] = "job"
    if query.before:
        given["number < ?"] = query.before
    if query.after:
        given["number > ?"] = query.after
    return list(given), list(given.values())


def by_id(session: Session, run_id: str) -> Run:
    """Read a run by its whole id."""
    rows = session.all(f"SELECT {RUN} FROM runs WHERE id = ?", run_id)
    if not rows:
        raise NotFoundError(f"no run {run_id!r}", hint="mlstead ps lists runs")
    return run(rows[0])


def by_token(session: Session, token: str) -> Run | None:
    """Read a run by its idempotency key."""
    rows = session.all(f"SELECT {RUN} FROM runs WHERE token = ?", token) if token else []
    return run(rows[0]) if rows else None


def find(session: Session, text: str, project: str) -> Run:
    """Read a run by id, name (newest, top-level first) or a unique beginning of its id."""
    also, values = (" AND project = ?", (project,)) if project else ("", ())
    for condition, given in (
        ("id = ?", (text,)),
        (f"name = ? AND parent = ''{also}", (text, *values)),
        (f"name = ?{also}", (text, *values)),
    ):
        rows = session.all(
            f"SELECT {RUN} FROM runs WHERE {condition} ORDER BY number DESC LIMIT 1", *given
        )
        if rows:
            return run(rows[0])
    rows = session.all(
        f"SELECT {RUN} FROM runs WHERE id >= ? AND id < ?{also} ORDER BY id LIMIT {_SHOWN + 1}",
        *(text, text + _LAST, *values),
    )
    if not text or not rows:
        raise NotFoundError(f"no run {text!r}", hint=_near(session, text, also, values))
    if len(rows) > 1:
        shown = ", ".join(row[0] for row in rows[:_SHOWN]) + (" …" if len(rows) > _SHOWN else "")
        raise ConflictError(f"several runs begin with {text!r}: {shown}", hint="write more of it")
    return run(rows[0])


def _near(session: Session, text: str, also: str, values: tuple[str, ...]) -> str:
    """Name runs, of the latest thousand, that are written nearly so."""
    rows = session.all(
        f"SELECT id, name FROM runs WHERE parent = ''{also} ORDER BY number DESC LIMIT 1000",
        *values,
    )
    known = list(dict.fromkeys(part for row in rows for part in row))
    near = difflib.get_close_matches(text, known, n=3)
    return "did you mean " + ", ".join(near) + "?" if near else "mlstead ps lists runs"


def counts(session: Session, parents: Sequence[str]) -> Mapping[str, Mapping[State, int]]:
    """Count children by state."""
    found: dict[str, dict[State, int]] = {parent: {} for parent in parents}
    rows = session.among(
        "SELECT parent, state, count(*) FROM runs WHERE parent IN (@) GROUP BY parent, state",
        list(found),
    )
    for parent, state, number in rows:
        found[parent][State(state)] = number
    return found
