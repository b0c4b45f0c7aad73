"""Metric points, and per series (run, metric, rank) what answers "latest" and "best" at once."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mlstead.records.base import Point
from mlstead.records.sql.database import Session
from mlstead.records.sql.driver import Value
from mlstead.records.sql.rows import POINT, point

_ADD_SERIES = """
INSERT INTO series (run_id, "key", rank, count, last_number, last_step,
                    min_number, min_value, max_number, max_value)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run_id, "key", rank) DO UPDATE SET
count = series.count + excluded.count,
last_number = CASE WHEN excluded.last_step >= series.last_step
              THEN excluded.last_number ELSE series.last_number END,
last_step = CASE WHEN excluded.last_step >= series.last_step
            THEN excluded.last_step ELSE series.last_step END,
min_number = CASE WHEN series.min_value IS NULL OR excluded.min_value < series.min_value
             THEN excluded.min_number ELSE series.min_number END,
min_value = CASE WHEN series.min_value IS NULL OR excluded.min_value < series.min_value
            THEN excluded.min_value ELSE series.min_value END,
max_number = CASE WHEN series.max_value IS NULL OR excluded.max_value > series.max_value
             THEN excluded.max_number ELSE series.max_number END,
max_value = CASE WHEN series.max_value IS NULL OR excluded.max_value > series.max_value
            THEN excluded.max_value ELSE series.max_value END
RETURNING id
"""
_COLUMNS = ("number", "series", "value", "step", "time", "attempt")


@dataclass(slots=True)
class _Series:
    """What one batch adds to one series; built up and thrown away inside ``add``."""

    count: int = 0
    last: tuple[int, int] = (-(2**63), 0)  # step, number
    low: tuple[float, int] | None = None  # value, number
    high: tuple[float, int] | None = None

    def take(self, value: float, step: int, number: int) -> None:
        self.count += 1
        self.last = max(self.last, (step, number))
        if math.isfinite(value):
            if self.low is None or value < self.low[0]:
                self.low = (value, number)
            if self.high is None or value > self.high[0]:
                self.high = (value, number)


def add(session: Session, points: Sequence[Point]) -> None:
    """Write points in their order, and what they change in their series."""
    if not points:
        return
    number = session.count("points", len(points)) - len(points)
    found: dict[tuple[str, str, int], _Series] = {}
    for offset, it in enumerate(points, 1):
        place = (it.run_id, it.key, it.rank)
        series = found.get(place)
        if series is None:
            series = found[place] = _Series()
        series.take(float(it.value), it.step, number + offset)
    ids = {place: _add_series(session, place, series) for place, series in found.items()}
    rows: list[list[Value]] = [
        [
            number + offset,
            ids[it.run_id, it.key, it.rank],
            None if math.isnan(it.value) else float(it.value),  # NULL is NaN
            it.step,
            it.time,
            it.attempt,
        ]
        for offset, it in enumerate(points, 1)
    ]
    session.load("points", _COLUMNS, rows)


def _add_series(session: Session, place: tuple[str, str, int], series: _Series) -> int:
    low_value, low_number = series.low or (None, None)
    high_value, high_number = series.high or (None, None)
    step, number = series.last
    numbers = (series.count, number, step, low_number, low_value, high_number, high_value)
    values: list[Value] = [*place, *numbers]
    rows = session.all(_ADD_SERIES, *values)
    return int(rows[0][0])


def points(session: Session, run_id: str, key: str, after: int, limit: int) -> list[Point]:
    """List points by number, of one run or of all."""
    if run_id:
        return _points_of(session, run_id, key, after, limit)
    also = ' AND s."key" = ?' if key else ""
    values: list[Value] = [after, key, limit] if key else [after, limit]
    # CROSS JOIN holds SQLite to walking the points in order and stopping at the limit.
    rows = session.all(
        f"SELECT {POINT} FROM points p CROSS JOIN series s WHERE s.id = p.series "
        f"AND p.number > ?{also} ORDER BY p.number LIMIT ?",
        *values,
    )
    return [point(row) for row in rows]


def _points_of(session: Session, run_id: str, key: str, after: int, limit: int) -> list[Point]:
    also = ' AND "key" = ?' if key else ""
    series = session.all(
        f"SELECT id FROM series WHERE run_id = ?{also}", *([run_id, key] if key else [run_id])
    )
    # The plus keeps the planner from walking all points of all runs for the sake of their order.
    rows = session.among(
        f"SELECT {POINT} FROM points p CROSS JOIN series s WHERE s.id = p.series "
        "AND p.series IN (@) AND p.number > ? ORDER BY +p.number LIMIT ?",
        [row[0] for row in series],
        *(after, limit),
    )
    return sorted(map(point, rows), key=lambda it: it.number)[:limit]


def latest(session: Session, run_ids: Sequence[str]) -> Mapping[str, Mapping[str, Point]]:
    """Give each metric's point with the highest step, lowest rank first."""
    rows = session.among(
        f"SELECT {POINT} FROM series s CROSS JOIN points p WHERE p.number = s.last_number "
        "AND s.run_id IN (@)",
        list(dict.fromkeys(run_ids)),
    )
    found: dict[str, dict[str, Point]] = {run_id: {} for run_id in run_ids}
    for it in map(point, rows):
        other = found[it.run_id].get(it.key)
        if other is None or (it.step, -it.rank) > (other.step, -other.rank):
            found[it.run_id][it.key] = it
    return found


def best(session: Session, run_id: str, key: str, goal: Literal["min", "max"]) -> Point | None:
    """Give the best finite point over all ranks, the first of equals."""
    column, sign = {"min": ("min_number", 1), "max": ("max_number", -1)}[goal]
    rows = session.all(
        f"SELECT {POINT} FROM series s CROSS JOIN points p WHERE p.number = s.{column} "
        'AND s.run_id = ? AND s."key" = ?',
        *(run_id, key),
    )
    return min(map(point, rows), key=lambda it: (sign * it.value, it.number), default=None)
