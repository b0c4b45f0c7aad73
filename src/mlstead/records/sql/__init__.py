"""Records in SQLite (the default) or PostgreSQL, chosen by the URL."""

from mlstead.records.sql.store import SqlStore, create

PART = create

__all__ = ["PART", "SqlStore", "create"]
