"""Runs work on connections: reads, and writes in one transaction; errors leave translated."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from mlstead.errors import UnavailableError
from mlstead.records.sql.driver import Connection, Driver, Value

T = TypeVar("T")
_CHUNK = 500  # values in one IN (…); SQLite's smallest limit in use is 32,766 for a statement


class Session:
    """One connection for the length of one read or one transaction."""

    def __init__(self, driver: Driver, connection: Connection) -> None:
        self.driver = driver
        self._connection = connection
        self._now: float | None = None

    @property
    def now(self) -> float:
        """Seconds since 1970 by the database's clock, the same for the whole session."""
        if self._now is None:
            self._now = float(self.all(f"SELECT {self.driver.now}")[0][0])
        return self._now

    def all(self, statement: str, *values: Value) -> list[tuple[Any, ...]]:
        """Give all rows of a query."""
        rows: list[tuple[Any, ...]] = self.driver.execute(
            self._connection, statement, _cleaned(values)
        ).fetchall()
        return rows

    def among(
        self, statement: str, wanted: Sequence[Value], *values: Value
    ) -> list[tuple[Any, ...]]:
        """Give all rows of a query with one ``IN (@)``, in portions; ``values`` come after it."""
        rows: list[tuple[Any, ...]] = []
        for start in range(0, len(wanted), _CHUNK):
            part = wanted[start : start + _CHUNK]
            marks = ", ".join("?" * len(part))
            rows += self.all(statement.replace("@", marks), *part, *values)
        return rows

    def change(self, statement: str, *values: Value) -> int:
        """Run a statement; give the number of rows it changed."""
        cursor = self.driver.execute(self._connection, statement, _cleaned(values))
        return int(cursor.rowcount)

    def change_many(self, statement: str, rows: Iterable[Sequence[Value]]) -> None:
        """Run a statement for many rows."""
        self.driver.execute_many(self._connection, statement, [_cleaned(row) for row in rows])

    def load(self, table: str, columns: Sequence[str], rows: list[list[Value]]) -> None:
        """Insert many rows of numbers the quickest way."""
        self.driver.load(self._connection, table, columns, rows)

    def count(self, name: str, by: int) -> int:
        """Draw ``by`` numbers from a counter; give the last."""
        rows = self.all(
            "UPDATE counters SET value = value + ? WHERE name = ? RETURNING value", by, name
        )
        return int(rows[0][0])


def clean(value: Value) -> Value:
    """Replace what no database keeps in text: NUL, and halves of surrogate pairs."""
    if isinstance(value, str) and ("\0" in value or not value.isascii()):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    return value


def _cleaned(values: Sequence[Value]) -> list[Value]:
    return [clean(value) if isinstance(value, str) else value for value in values]


class Database:
    """Keeps a few connections, for threads and across forks."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._process = os.getpid()
        self._parents: list[Connection] = []

    def ensure(self, schema: Callable[[Driver], None]) -> None:
        """Bring the schema up to date; its errors leave translated, too."""
        with self._translated():
            schema(self.driver)

    def read(self, work: Callable[[Session], T]) -> T:
        """Run queries; a connection found dropped is opened again once."""
        with self._translated():
            connection, used = self._take()
            try:
                return self._read(connection, work)
            except self.driver.errors as error:
                if not used or not self.driver.lost(error):
                    raise
            self.close()
            return self._read(self.driver.connect(), work)

    def write(self, work: Callable[[Session], T]) -> T:
        """Run changes as the only writer, all or none.

        A connection found dropped before anything was sent is opened again once; a commit is
        never repeated, because nobody can know whether it was made.
        """
        with self._translated():
            connection = self._begin()
            try:
                result = work(Session(self.driver, connection))
                self._commit(connection)
            except BaseException:
                self._roll_back(connection)
                raise
            self._give(connection)
            return result

    def close(self) -> None:
        """Close the connections that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            with contextlib.suppress(*self.driver.errors):
                connection.close()

    def _read(self, connection: Connection, work: Callable[[Session], T]) -> T:
        try:
            result = work(Session(self.driver, connection))
        except self.driver.errors:
            with contextlib.suppress(*self.driver.errors):
                connection.close()
            raise
        except BaseException:
            self._give(connection)
            raise
        self._give(connection)
        return result

    def _begin(self) -> Connection:
        connection, used = self._take()
        try:
            self.driver.begin(connection)
        except self.driver.errors as error:
            self._roll_back(connection)
            if not used or not self.driver.lost(error):
                raise
        else:
            return connection
        self.close()
        connection = self.driver.connect()
        self.driver.begin(connection)
        return connection

    def _commit(self, connection: Connection) -> None:
        try:
            self.driver.execute(connection, "COMMIT")
        except self.driver.errors as error:
            if self.driver.lost(error):
                raise UnavailableError(
                    f"{self.driver.place}: the connection broke while a change was being recorded",
                    hint="it may or may not be there: look before doing it again",
                ) from error
            raise

    def _roll_back(self, connection: Connection) -> None:
        """Undo and close: after an error a connection is not trusted again."""
        with contextlib.suppress(*self.driver.errors):
            self.driver.execute(connection, "ROLLBACK")
        with contextlib.suppress(*self.driver.errors):
            connection.close()

    def _take(self) -> tuple[Connection, bool]:
        """Give a connection, and whether it was used before."""
        with self._lock:
            if self._process != os.getpid():
                # A fork's copy must neither be used nor closed: it is the parent's.
                self._parents += self._idle
                self._idle, self._process = [], os.getpid()
            if self._idle:
                return self._idle.pop(), True
        return self.driver.connect(), False

    def _give(self, connection: Connection) -> None:
        with self._lock:
            if len(self._idle) < self.driver.idle:
                self._idle.append(connection)
                return
        connection.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except self.driver.errors as error:
            known = self.driver.translate(error)
            if known is None:
                raise
            raise known from error
