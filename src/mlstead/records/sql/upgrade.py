"""Runs the Alembic revisions on an older database, and writes the text of the newest schema.

Imported only when it is needed: Alembic and SQLAlchemy take a second to load.
"""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.config import Config
from alembic.environment import EnvironmentContext
from alembic.script import ScriptDirectory

from mlstead.records.sql.schema import VERSION_TABLE

REVISIONS_FOLDER = Path(__file__).with_name("migrations")
_URLS = {"sqlite": "sqlite://", "postgresql": "postgresql+psycopg://"}
_HEAD = '''"""The newest schema as plain statements, made from the migrations: do not edit.

Written by ``python -m mlstead.records.sql.upgrade``; a test holds both equal.
"""

HEAD = "{head}"
REVISIONS = ({known})
'''


def head(folder: Path = REVISIONS_FOLDER) -> str:
    """Name the newest revision."""
    return _script(folder).get_heads()[0]


def revisions(folder: Path = REVISIONS_FOLDER) -> list[str]:
    """Name all revisions, oldest first."""
    return [script.revision for script in _script(folder).walk_revisions()][::-1]


def upgrade(
    dialect: str, connect: Callable[[], Any], lock: str, folder: Path = REVISIONS_FOLDER
) -> None:
    """Bring a database to the newest revision, in one transaction.

    Args:
        dialect: ``sqlite`` or ``postgresql``.
        connect: opens a connection of the driver, in the driver's own transaction mode.
        lock: the statement that makes this transaction the only writer.
        folder: where the revisions lie.
    """
    engine = sa.create_engine(_URLS[dialect], creator=connect, poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            if dialect == "sqlite":
                connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
                connection.commit()
            with connection.begin():
                connection.exec_driver_sql(lock)
                _run(folder, connection=connection, transactional_ddl=True)
    finally:
        engine.dispose()


def statements(dialect: str, folder: Path = REVISIONS_FOLDER) -> list[str]:
    """Give the statements that make the newest schema in an empty database."""
    text = io.StringIO()
    _run(folder, dialect_name=dialect, as_sql=True, output_buffer=text, starting_rev=None)
    lines = (line.strip() for line in text.getvalue().splitlines())
    kept = "\n".join(line for line in lines if line and not line.startswith("--"))
    found = (part.strip(";\n") for part in re.sub(r" RETURNING \S+;", ";", kept).split(";\n"))
    return [part for part in found if part not in ("BEGIN", "COMMIT")]


def module_text() -> str:
    """Write the module that holds the newest schema for both databases."""
    known = "".join(f'"{name}", ' for name in revisions()).removesuffix(" ")
    parts = [_HEAD.format(head=head(), known=known)]
    for dialect in _URLS:
        text = ";\n".join(statements(dialect))
        parts.append(f'{dialect.upper()} = """\\\n{text}\n"""\n')
    return "\n".join(parts)


def _script(folder: Path) -> ScriptDirectory:
    return ScriptDirectory(str(folder), version_locations=[str(folder)])


def _run(folder: Path, **options: Any) -> None:
    """Run the revisions without an ``env.py``."""
    script = _script(folder)

    def steps(revision: Any, _context: Any) -> Any:
        return script._upgrade_revs("head", revision)

    with EnvironmentContext(
        Config(), script, fn=steps, as_sql=options.get("as_sql", False)
    ) as environment:
        environment.configure(version_table=VERSION_TABLE, **options)
        with environment.begin_transaction():
            environment.run_migrations()


if __name__ == "__main__":
    Path(__file__).with_name("generated.py").write_text(module_text())
