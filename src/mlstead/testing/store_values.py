"""Values that the store contract writes and reads again."""

from typing import Any

from mlstead.records.base import (
    Point,
    Query,
    Store,
    Version,
)

HOSTILE = (
    "'; DROP TABLE runs; --",
    '"quoted" `back` $(sh) \\ %s %(x)s ? :x {} $1',
    "<script>alert(1)</script>",
    "line\nline\ttab \u202e \U0001f600 名前",
    "100%_like*",
)


def point(key: str, value: float, step: int, **fields: Any) -> Point:
    """Make a point of the run ``a``."""
    return Point(**{"run_id": "a", "key": key, "value": value, "step": step, "time": 1.0, **fields})


def version(number: int, name: str = "faces", digest: str = "d", **fields: Any) -> Version:
    """Make a version of data in project ``p``."""
    return Version("p", "data", name, number, digest, **fields)


def ids(store: Store, **query: Any) -> list[str]:
    """List the ids of the runs that a query gives."""
    return [it.id for it in store.runs(Query(**query))]


def fields_of(value: Any, names: str = "") -> dict[str, Any]:
    """Give fields of frozen data by name, for making its like."""
    fixed = {"id", "project", "kind", "name", "number", "digest"}
    wanted = names.split() or [it for it in value.__dataclass_fields__ if it not in fixed]
    return {name: getattr(value, name) for name in wanted}
