"""The store over SQLite or PostgreSQL."""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, cast

from mlstead.errors import UserError
from mlstead.records.base import (
    CacheEntry,
    Change,
    Event,
    Lease,
    Link,
    Outgoing,
    Point,
    Query,
    Run,
    State,
    Store,
    Version,
)
from mlstead.records.sql import artifacts, leases, metrics, runs
from mlstead.records.sql.changes import apply, check_fence, last_number
from mlstead.records.sql.database import Database, Session
from mlstead.records.sql.driver import Driver
from mlstead.records.sql.rows import EVENT, OUTGOING, event, outgoing
from mlstead.records.sql.schema import ensure
from mlstead.records.sql.sqlite import Sqlite

_HINT = "sqlite:////FOLDER/records.db or postgresql://USER:PASSWORD@HOST/DATABASE"
_FILE = "sqlite:///"
_SERVERS = ("postgresql://", "postgresql+psycopg://", "postgres://")


def create(url: str) -> Store:
    """Open the records at a URL, making or upgrading the schema where needed.

    Args:
        url: ``sqlite:////absolute/path`` (taken as it is, nothing is decoded), or what libpq
            takes: ``postgresql://user:password@host:port/database``.

    Raises:
        UserError: not such a URL, no right to open it, or records of a newer mlstead.
        UnavailableError: the database does not answer, or its disk is full.
    """
    driver = _driver(url)
    database = Database(driver)
    database.ensure(ensure)
    return SqlStore(database)


def _driver(url: str) -> Driver:
    if url.startswith(_FILE) and url.removeprefix(_FILE) not in ("", ":memory:"):
        return Sqlite(Path(url.removeprefix(_FILE)))
    if url.startswith(_SERVERS):
        try:
            module = importlib.import_module("mlstead.records.sql.postgresql")
        except ImportError as error:
            raise UserError(
                "the records are in PostgreSQL, but its driver is not installed",
                hint="pip install 'mlstead[postgres]'",
            ) from error
        return cast("Driver", module.Postgresql(url))
    scheme = url.partition(":")[0]
    raise UserError(f"records: not a URL of a database ({scheme}:…)", hint=_HINT)


class SqlStore(Store):
    """Keeps the records in a database; see ``Store``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def commit(self, changes: Sequence[Change], *, lease: Lease | None = None) -> None:
        def work(session: Session) -> None:
            if lease:
                check_fence(session, lease)
            for change in changes:
                apply(session, change)

        if changes or lease:
            self._database.write(work)

    def run(self, run_id: str) -> Run:
        return self._database.read(lambda it: runs.by_id(it, run_id))

    def find(self, text: str, project: str = "") -> Run:
        return self._database.read(lambda it: runs.find(it, text, project))

    def by_token(self, token: str) -> Run | None:
        return self._database.read(lambda it: runs.by_token(it, token))

    def runs(self, query: Query) -> list[Run]:
        return self._database.read(lambda it: runs.listed(it, query))

    def counts(self, parents: Sequence[str]) -> Mapping[str, Mapping[State, int]]:
        return self._database.read(lambda it: runs.counts(it, parents))

    def events(self, run_id: str) -> list[Event]:
        rows = self._database.read(
            lambda it: it.all(
                f"SELECT {EVENT} FROM events WHERE run_id = ? ORDER BY time, number", run_id
            )
        )
        return [event(row) for row in rows]

    def points(
        self, run_id: str = "", *, key: str = "", after: int = 0, limit: int = 10_000
    ) -> list[Point]:
        return self._database.read(lambda it: metrics.points(it, run_id, key, after, limit))

    def latest(self, run_ids: Sequence[str]) -> Mapping[str, Mapping[str, Point]]:
        return self._database.read(lambda it: metrics.latest(it, run_ids))

    def best(self, run_id: str, key: str, goal: Literal["min", "max"]) -> Point | None:
        return self._database.read(lambda it: metrics.best(it, run_id, key, goal))

    def cursor(self, name: str) -> str:
        rows = self._database.read(
            lambda it: it.all("SELECT value FROM cursors WHERE name = ?", name)
        )
        return str(rows[0][0]) if rows else ""

    def cursors(self, prefix: str) -> Mapping[str, str]:
        rows = self._database.read(
            lambda it: it.all(
                "SELECT name, value FROM cursors WHERE name >= ? AND name < ? ORDER BY name",
                *(prefix, prefix + "\U0010ffff"),
            )
        )
        return dict(rows)

    def versions(
        self, project: str, kind: str = "", name: str = "", digest: str = ""
    ) -> list[Version]:
        return self._database.read(lambda it: artifacts.versions(it, project, kind, name, digest))

    def version(self, project: str, kind: str, name: str, at: str = "") -> Version:
        return self._database.read(lambda it: artifacts.one(it, project, kind, name, at))

    def next_number(self, project: str, kind: str, name: str) -> int:
        return 1 + self._database.read(lambda it: last_number(it, project, kind, name))

    def links(self, run_ids: Sequence[str] = (), *, digest: str = "") -> list[Link]:
        return self._database.read(lambda it: artifacts.links(it, run_ids, digest))

    def cache(self, key: str) -> CacheEntry | None:
        return self._database.read(lambda it: artifacts.cached(it, key))

    def outgoing(self, due: float) -> list[Outgoing]:
        rows = self._database.read(
            lambda it: it.all(
                f"SELECT {OUTGOING} FROM outgoing WHERE state = 'waiting' AND next_try <= ? "
                "ORDER BY created, id",
                due,
            )
        )
        return [outgoing(row) for row in rows]

    def claim(self, run_id: str, holder: str, seconds: float) -> Lease | None:
        return self._database.write(lambda it: leases.claim(it, run_id, holder, seconds))

    def release(self, lease: Lease) -> None:
        self._database.write(lambda it: leases.release(it, lease))

    def digests(self) -> Iterator[str]:
        return iter(self._database.read(artifacts.digests))

    def close(self) -> None:
        self._database.close()
