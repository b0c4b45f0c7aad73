"""SQLite as a driver: one file with a write-ahead log, readable by its owner only."""

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from mlstead.errors import PlatformError, UnavailableError, UserError
from mlstead.records.sql import generated
from mlstead.records.sql.driver import Connection, Cursor, Value

PATIENCE = 30.0  # seconds to wait for another writer
_PAUSE = 0.02  # seconds between tries where SQLite itself does not wait
_OLDEST = (3, 35, 0)  # the first with RETURNING
_LOG_LIMIT = 64 * 2**20  # bytes of write-ahead log kept after a large write

_SAYINGS: dict[int, tuple[type[PlatformError], str, str]] = {
    sqlite3.SQLITE_FULL: (
        UnavailableError,
        "the disk is full, nothing was written",
        "free some space, then do it again; what was recorded before is intact",
    ),
    sqlite3.SQLITE_IOERR: (
        UnavailableError,
        "the disk does not take or give the data, nothing was written",
        "look for a full disk, a file size limit (ulimit -f) or disk errors (dmesg)",
    ),
    sqlite3.SQLITE_READONLY: (
        UnavailableError,
        "the records cannot be written",
        "check who owns the file and its folder, and whether the disk is mounted read-only",
    ),
    sqlite3.SQLITE_BUSY: (
        UnavailableError,
        f"another process has kept the records locked for {PATIENCE:.0f} seconds",
        "try again; a stopped (Ctrl-Z) mlstead holds the lock until it goes on",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        UserError,
        "the records cannot be opened",
        "check that you may write to the file and its folder, or set MLSTEAD_HOME",
    ),
    sqlite3.SQLITE_CORRUPT: (
        UserError,
        "the records are damaged",
        "put back a copy; 'sqlite3 FILE .recover' saves what can be saved",
    ),
    sqlite3.SQLITE_NOTADB: (
        UserError,
        "this file is not a database of mlstead",
        "put back a copy, or move the file away to start anew",
    ),
    sqlite3.SQLITE_TOOBIG: (UserError, "a value is too large to record", "keep it as an artifact"),
}
_SAYINGS[sqlite3.SQLITE_LOCKED] = _SAYINGS[sqlite3.SQLITE_BUSY]
_SAYINGS[sqlite3.SQLITE_PERM] = _SAYINGS[sqlite3.SQLITE_CANTOPEN]
_SAYINGS[sqlite3.SQLITE_AUTH] = _SAYINGS[sqlite3.SQLITE_CANTOPEN]


class Sqlite:
    """A SQLite file; see ``Driver``."""

    name = "sqlite"
    # Julian days to seconds; SQLite gives milliseconds. 'subsec' came only with SQLite 3.42.
    now = "((julianday('now') - 2440587.5) * 86400.0)"
    schema = generated.SQLITE
    begin_text = "BEGIN IMMEDIATE"
    errors: tuple[type[Exception], ...] = (sqlite3.Error, OverflowError)
    idle = 8

    def __init__(self, path: Path, patience: float = PATIENCE) -> None:
        if sqlite3.sqlite_version_info < _OLDEST:
            raise UserError(
                f"this Python has SQLite {sqlite3.sqlite_version}, which is too old",
                hint=f"SQLite {'.'.join(map(str, _OLDEST))} is needed, or PostgreSQL by URL",
            )
        self.path = path
        self.place = str(path)
        self._patience = patience

    def connect(self) -> Connection:
        self._touch()
        connection = self.connect_plain(isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute(f"PRAGMA journal_size_limit={_LOG_LIMIT}")
            self._log_ahead(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def connect_plain(self, isolation_level: str | None = None) -> Connection:
        return sqlite3.connect(
            self.path,
            timeout=self._patience,
            isolation_level=isolation_level,  # type: ignore[arg-type]  # typeshed wants a literal
            check_same_thread=False,
        )

    def begin(self, connection: Connection) -> None:
        connection.execute(self.begin_text)

    def execute(
        self, connection: Connection, statement: str, values: Sequence[Value] = ()
    ) -> Cursor:
        return connection.execute(statement, values)

    def execute_many(
        self, connection: Connection, statement: str, rows: Iterable[Sequence[Value]]
    ) -> None:
        connection.executemany(statement, rows)

    def load(
        self, connection: Connection, table: str, columns: Sequence[str], rows: list[list[Value]]
    ) -> None:
        marks = ", ".join("?" * len(columns))
        names = ", ".join(columns)
        connection.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", rows)

    def tables(self, connection: Connection) -> set[str]:
        found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {row[0] for row in found if not row[0].startswith("sqlite_")}

    def lost(self, error: Exception) -> bool:
        return False  # a file has no connection to lose

    def missing_run(self, error: Exception) -> bool:
        return getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY

    def translate(self, error: Exception) -> PlatformError | None:
        if isinstance(error, OverflowError):
            return UserError("a number is too large to record", hint="64 bits are the limit")
        code = getattr(error, "sqlite_errorcode", None)
        if code is None:
            return None
        kind, text, hint = _SAYINGS.get(code & 0xFF, (None, "", ""))
        return kind(f"{self.place}: {text}", hint=hint) if kind else None

    def _touch(self) -> None:
        """Make the file before SQLite does, so that nobody else may ever read it."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except OSError as error:
            raise UserError(
                f"{self.place}: the records cannot be made: {error.strerror}",
                hint="check who owns the folder, or set MLSTEAD_HOME",
            ) from error

    def _log_ahead(self, connection: Connection) -> None:
        """Turn the write-ahead log on; SQLite does not wait for others while it does that."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                connection.execute("PRAGMA journal_mode=WAL").fetchall()
                return
            except sqlite3.OperationalError as error:
                busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE)
