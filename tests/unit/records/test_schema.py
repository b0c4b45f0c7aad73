"""The schema: what a new database gets is what the migrations make; older ones are brought up."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlstead.errors import UserError
from mlstead.records.base import AddRun, Query, Run
from mlstead.records.sql import create, generated, upgrade
from mlstead.records.sql.sqlite import Sqlite

NEXT = '''
"""Revision 0002: a test's."""
import sqlalchemy as sa
from alembic import op
revision, down_revision, branch_labels, depends_on = "0002", "0001", None, None

def upgrade():
    op.add_column("runs", sa.Column("colour", sa.Text(), nullable=False, server_default="red"))
    op.execute("UPDATE runs SET colour = 'blue' WHERE number = 1")
    with op.batch_alter_table("events") as batch:
        batch.alter_column("data", new_column_name="facts")
'''


def shape(path: Path) -> list[tuple[Any, ...]]:
    """List every table and index, with columns, defaults and keys, as SQLite sees them."""
    connection = sqlite3.connect(path)
    try:
        found: list[tuple[Any, ...]] = []
        for (table,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
        ).fetchall():
            for pragma in ("table_info", "foreign_key_list"):
                rows = connection.execute(f"PRAGMA {pragma}({table})").fetchall()
                found += [(table, pragma, *row) for row in rows]
            for index in connection.execute(f"PRAGMA index_list({table})").fetchall():
                columns = connection.execute(f"PRAGMA index_xinfo({index[1]})").fetchall()
                found.append((table, *index[1:], *columns))
        found += connection.execute("SELECT * FROM counters ORDER BY name").fetchall()
        found += connection.execute("SELECT * FROM mlstead_schema").fetchall()
        return found
    finally:
        connection.close()


def migrated(path: Path, folder: Path = upgrade.REVISIONS_FOLDER) -> None:
    driver = Sqlite(path)
    upgrade.upgrade(driver.name, driver.connect_plain, driver.begin_text, folder)


@pytest.fixture
def newer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder of revisions with one more, which this code is made to want."""
    folder = tmp_path / "revisions"
    shutil.copytree(upgrade.REVISIONS_FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "v0002_test.py").write_text(NEXT)
    monkeypatch.setattr(generated, "HEAD", "0002")
    monkeypatch.setattr(generated, "REVISIONS", ("0001", "0002"))
    real = upgrade.upgrade
    monkeypatch.setattr(
        upgrade, "upgrade", lambda dialect, connect, lock: real(dialect, connect, lock, folder)
    )
    return folder


def an_old_one(path: Path) -> str:
    url = f"sqlite:///{path}"
    store = create(url)
    store.commit([AddRun(Run("a", "p", "job", "a")), AddRun(Run("b", "p", "job", "b"))])
    store.close()
    return url


def test_the_generated_schema_is_the_one_on_file() -> None:
    assert Path(generated.__file__).read_text() == upgrade.module_text()


def test_the_migrations_make_the_generated_schema(tmp_path: Path) -> None:
    create(f"sqlite:///{tmp_path}/generated.db").close()
    migrated(tmp_path / "migrated.db")
    assert shape(tmp_path / "generated.db") == shape(tmp_path / "migrated.db")


def test_revisions_are_one_line_that_ends_in_this_codes(tmp_path: Path) -> None:
    assert upgrade.revisions()[-1] == upgrade.head() == generated.HEAD
    assert tuple(upgrade.revisions()) == generated.REVISIONS


def test_a_new_database_needs_no_migration_library(tmp_path: Path) -> None:
    code = (
        "import sys; from mlstead.records import sql; "
        f"sql.create('sqlite:///{tmp_path}/r.db').close(); "
        f"sql.create('sqlite:///{tmp_path}/r.db').close(); "
        "print({'alembic', 'sqlalchemy', 'psycopg'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_an_older_database_is_brought_up_with_its_rows(newer: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as before:
        before.setattr(generated, "HEAD", "0001")
        url = an_old_one(tmp_path / "r.db")
    store = create(url)
    assert [it.id for it in store.runs(Query())] == ["b", "a"]
    store.close()
    connection = sqlite3.connect(tmp_path / "r.db")
    found = connection.execute("SELECT id, colour FROM runs ORDER BY id").fetchall()
    columns = [row[1] for row in connection.execute("PRAGMA table_info(events)")]
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()
    assert found == [("a", "blue"), ("b", "red")]
    assert "facts" in columns and "data" not in columns


def test_an_upgrade_that_fails_changes_nothing(newer: Path, tmp_path: Path) -> None:
    (newer / "v0002_test.py").write_text(NEXT + "    raise RuntimeError('in the middle')\n")
    with pytest.MonkeyPatch.context() as before:
        before.setattr(generated, "HEAD", "0001")
        url = an_old_one(tmp_path / "r.db")
    was = shape(tmp_path / "r.db")
    with pytest.raises(RuntimeError, match="in the middle"):
        create(url)
    assert shape(tmp_path / "r.db") == was


def test_records_of_a_newer_mlstead_are_left_alone(tmp_path: Path) -> None:
    url = an_old_one(tmp_path / "r.db")
    connection = sqlite3.connect(tmp_path / "r.db")
    with connection:
        connection.execute("UPDATE mlstead_schema SET version_num = '9999'")
    connection.close()
    with pytest.raises(UserError, match="newer mlstead") as caught:
        create(url)
    assert "upgrade" in caught.value.hint


def test_a_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "r.db")
    connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
    connection.close()
    with pytest.raises(UserError, match="something else"):
        create(f"sqlite:///{tmp_path}/r.db")
    driver = Sqlite(tmp_path / "r.db")
    connection = driver.connect_plain()
    assert driver.tables(connection) == {"alembic_version"}
    connection.close()
