"""What the store needs of a database driver: SQLite and PostgreSQL differ here and nowhere else."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from mlstead.errors import PlatformError

# A DB-API connection or cursor; the two drivers share no base class.
Connection = Any
Cursor = Any
Value = str | int | float | None


class Driver(Protocol):
    """One kind of database at one place.

    Attributes:
        name: ``sqlite`` or ``postgresql``, as SQLAlchemy names the dialect.
        place: where it is, for messages; never a password.
        now: an SQL expression, seconds since 1970 by the database's clock.
        schema: the statements that make the newest schema.
        begin_text: starts a transaction that is the only writer (in SQLAlchemy's hands).
        errors: the exceptions that the driver raises.
        idle: how many unused connections are kept.
    """

    name: str
    place: str
    now: str
    schema: str
    begin_text: str
    errors: tuple[type[Exception], ...]
    idle: int

    def connect(self) -> Connection:
        """Open a connection where each statement is a transaction, unless ``begin`` was called."""

    def connect_plain(self) -> Connection:
        """Open a connection in the driver's own transaction mode."""

    def begin(self, connection: Connection) -> None:
        """Start a transaction as the only writer, waiting for others."""

    def execute(
        self, connection: Connection, statement: str, values: Sequence[Value] = ()
    ) -> Cursor:
        """Run one statement with ``?`` for values."""

    def execute_many(
        self, connection: Connection, statement: str, rows: Iterable[Sequence[Value]]
    ) -> None:
        """Run one statement for many rows."""

    def load(
        self, connection: Connection, table: str, columns: Sequence[str], rows: list[list[Value]]
    ) -> None:
        """Insert many rows the quickest way."""

    def tables(self, connection: Connection) -> set[str]:
        """Name the tables."""

    def lost(self, error: Exception) -> bool:
        """Say whether the connection is gone, which opening another may heal."""

    def missing_run(self, error: Exception) -> bool:
        """Say whether a row names a run that is not there."""

    def translate(self, error: Exception) -> PlatformError | None:
        """Give the platform's error; None for what is a bug of ours."""
