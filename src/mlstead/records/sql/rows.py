"""Turns rows into the records' data and back; the order of columns is written here only."""

import math
from typing import Any

from mlstead.records.base import Event, Link, Outgoing, Point, Run, State, Version, from_json

Row = Any  # what a driver gives: a tuple in the order of the columns below

RUN = (
    'id, project, kind, name, engine, state, number, parent, "key", spec, request, params, labels, '
    '"values", extra, status, created, started, ended, reason, detail, attempt, stop, cached, '
    "code, environment, mlflow, token"
)
EVENT = "run_id, name, time, attempt, data"
POINT = 's.run_id, s."key", p.value, p.step, p.time, s.rank, p.attempt, p.number'
VERSION = (
    "v.project, v.kind, v.name, v.number, v.digest, v.size, v.files, v.run_id, v.output, "
    "v.created, v.source, v.meta"
)
LINK = "run_id, direction, slot, kind, digest, ref, partial"
OUTGOING = 'id, run_id, "to", text, created, tries, next_try, state, error'


def run(row: Row) -> Run:
    """Read a run."""
    found = list(row)
    found[5] = State(row[5])
    found[9:16] = map(from_json, row[9:16])
    found[22] = bool(row[22])
    found[27] = row[27] or ""
    return Run(*found)


def event(row: Row) -> Event:
    """Read an event."""
    found = [*row[:4], from_json(row[4])]
    return Event(*found)


def point(row: Row) -> Point:
    """Read a metric point; NULL stands for NaN."""
    found = list(row)
    found[2] = math.nan if row[2] is None else row[2]
    return Point(*found)


def version(row: Row, aliases: tuple[str, ...]) -> Version:
    """Read a version."""
    found = [*row[:11], from_json(row[11]), aliases]
    return Version(*found)


def link(row: Row) -> Link:
    """Read an input or output."""
    found = [*row[:6], bool(row[6])]
    return Link(*found)


def outgoing(row: Row) -> Outgoing:
    """Read a message."""
    return Outgoing(*row)
