"""PostgreSQL as a driver, by psycopg 3; imported only when the URL asks for it."""

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
from psycopg import conninfo, errors

from mlstead.errors import PlatformError, UnavailableError, UserError
from mlstead.records.sql import generated
from mlstead.records.sql.driver import Connection, Cursor, Value

DELAY = 5.0  # seconds after which trying again makes sense
# One lock for all writers makes the order of commits the order of numbers (as SQLite does), so a
# reader that goes on after a number has missed nothing.
_LOCK = 7_723_001
_SETTINGS = (
    "SET lock_timeout = '30s'; "
    "SET idle_in_transaction_session_timeout = '60s'; "
    "SET client_encoding = 'UTF8'"
)
_REFUSALS = ("authentication failed", "pg_hba.conf", "does not exist", "no password supplied")
_TOO_MANY = ("too many clients", "too many connections", "connection slots")
_WAITING = (errors.LockNotAvailable, errors.DeadlockDetected, errors.SerializationFailure)
_FULL = (errors.DiskFull, errors.OutOfMemory, errors.IoError)


@functools.lru_cache(maxsize=512)
def _marks(statement: str) -> str:
    """Write ``?`` as psycopg wants it; no statement of ours holds a question mark as text."""
    return statement.replace("%", "%%").replace("?", "%s")


class Postgresql:
    """A PostgreSQL database; see ``Driver``."""

    name = "postgresql"
    now = "extract(epoch from clock_timestamp())::float8"
    schema = generated.POSTGRESQL
    begin_text = f"SELECT pg_advisory_xact_lock({_LOCK})"
    errors: tuple[type[Exception], ...] = (psycopg.Error,)
    idle = 4

    def __init__(self, url: str) -> None:
        self._url = url.replace("postgresql+psycopg://", "postgresql://", 1)
        try:
            parts = conninfo.conninfo_to_dict(self._url)
        except psycopg.ProgrammingError as error:
            # The driver's own message repeats the URL, and with it the password.
            raise UserError(
                "the URL of the records cannot be read",
                hint="postgresql://USER:PASSWORD@HOST:PORT/DATABASE",
            ) from error
        host = parts.get("host") or "localhost"
        self.place = f"postgresql {host}/{parts.get('dbname') or parts.get('user') or ''}"

    def connect(self) -> Connection:
        connection = self.connect_plain(autocommit=True)
        connection.execute(_SETTINGS)
        return connection

    def connect_plain(self, autocommit: bool = False) -> Connection:
        options: dict[str, Any] = {"connect_timeout": 10, "application_name": "mlstead"}
        options |= {"keepalives_idle": 30, "tcp_user_timeout": 30_000}
        given = conninfo.conninfo_to_dict(self._url)
        options = {name: value for name, value in options.items() if name not in given}
        return psycopg.connect(self._url, autocommit=autocommit, **options)

    def begin(self, connection: Connection) -> None:
        connection.execute("BEGIN; " + self.begin_text)

    def execute(
        self, connection: Connection, statement: str, values: Sequence[Value] = ()
    ) -> Cursor:
        return connection.execute(_marks(statement), values)

    def execute_many(
        self, connection: Connection, statement: str, rows: Iterable[Sequence[Value]]
    ) -> None:
        with connection.cursor() as cursor:
            cursor.executemany(_marks(statement), rows)

    def load(
        self, connection: Connection, table: str, columns: Sequence[str], rows: list[list[Value]]
    ) -> None:
        names = ", ".join(columns)
        with (
            connection.cursor() as cursor,
            cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy,
        ):
            for row in rows:
                copy.write_row(row)

    def tables(self, connection: Connection) -> set[str]:
        found = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
        )
        return {row[0] for row in found}

    def lost(self, error: Exception) -> bool:
        # A failure to connect has no state either, and it, too, is worth one more try.
        state = getattr(error, "sqlstate", None)
        gone = state is None or state.startswith(("08", "57P"))
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and gone

    def missing_run(self, error: Exception) -> bool:
        return isinstance(error, errors.ForeignKeyViolation)

    def translate(self, error: Exception) -> PlatformError | None:
        text = str(error)
        line = (text.strip().splitlines() or [type(error).__name__])[0]
        if isinstance(error, errors.TooManyConnections) or any(say in text for say in _TOO_MANY):
            return self._unavailable("too many connections", "close some, or raise max_connections")
        if isinstance(error, _WAITING):
            return self._unavailable("another writer has kept the lock", "try again")
        if isinstance(error, _FULL):
            return self._unavailable(f"nothing was written: {line}", "free space on its host")
        if isinstance(error, errors.ReadOnlySqlTransaction):
            return self._unavailable("the database is read-only", "name the primary in the URL")
        if isinstance(error, psycopg.DataError):
            return UserError(f"{self.place}: a value cannot be recorded: {line}")
        if isinstance(error, errors.InsufficientPrivilege):
            return UserError(f"{self.place}: {line}", hint="grant the user its own schema")
        if not self.lost(error):
            return None
        if any(say in text for say in _REFUSALS):
            return UserError(f"{self.place}: {line}", hint="check user, password and database")
        return self._unavailable(f"no answer: {line}", "is the server up? runs go on meanwhile")

    def _unavailable(self, text: str, hint: str) -> UnavailableError:
        return UnavailableError(f"{self.place}: {text}", hint=hint, delay=DELAY)
