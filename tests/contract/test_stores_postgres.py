"""PostgreSQL under faults: down, restarted, full of clients, cut off in the middle of a commit."""

from __future__ import annotations

import itertools
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from tests.contract import postgres_server

from mlstead.errors import PlatformError, UnavailableError, UserError
from mlstead.records.base import AddPoints, AddRun, Point, Query, Run, Store
from mlstead.records.sql import SqlStore, create, generated, postgresql, upgrade
from mlstead.records.sql.database import Database, Session
from mlstead.records.sql.postgresql import Postgresql
from mlstead.records.sql.schema import ensure

_numbers = itertools.count()
NEXT = '''
"""Revision 0002: a test's."""
import sqlalchemy as sa
from alembic import op
revision, down_revision, branch_labels, depends_on = "0002", "0001", None, None

def upgrade():
    op.add_column("runs", sa.Column("colour", sa.Text(), nullable=False, server_default="red"))
'''


@pytest.fixture(scope="module")
def server() -> Iterator[postgres_server.Server]:
    server = postgres_server.start()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def _ends_running(server: postgres_server.Server) -> Iterator[None]:
    yield
    server.halt(signal.SIGQUIT)
    server.resume()


@pytest.fixture
def url(server: postgres_server.Server) -> str:
    """Give the URL of an empty schema."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    return f"{server.url}&options=-csearch_path%3D{name}"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = create(url)
    yield store
    store.close()


def a_run(run_id: str) -> AddRun:
    return AddRun(Run(run_id, "p", "job", run_id))


def told(error: PlatformError, url: str) -> None:
    """Hold an error to one line without the password, and a hint."""
    text = str(error) + error.hint
    assert "\n" not in text and error.hint
    assert str(urlsplit(url).password) not in text


def ask(url: str, statement: str) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def test_a_server_that_is_down_is_unavailable_until_it_is_back(
    server: postgres_server.Server, url: str, store: Store
) -> None:
    store.commit([a_run("a")])
    server.halt()
    for call in (
        lambda: store.run("a"),
        lambda: store.commit([a_run("b")]),
        lambda: store.claim("a", "x", 5.0),
        lambda: create(url),
    ):
        with pytest.raises(UnavailableError) as caught:
            call()
        assert caught.value.delay and caught.value.delay > 0
        told(caught.value, url)
    server.resume()
    store.commit([a_run("b")])
    assert [it.id for it in store.runs(Query())] == ["b", "a"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
def test_a_restart_between_two_calls_is_not_noticed(
    server: postgres_server.Server, store: Store, how: signal.Signals
) -> None:
    store.commit([a_run("a")])
    server.halt(how)
    server.resume()
    assert store.run("a").number == 1
    server.halt(how)
    server.resume()
    store.commit([a_run("b")])
    assert store.run("b").number == 2


def test_a_transaction_cut_off_is_undone_and_not_repeated(url: str, store: Store) -> None:
    database = Database(Postgresql(url))
    calls = []

    def work(session: Session) -> None:
        calls.append(session.change("INSERT INTO cursors (name, value) VALUES ('x', 'y')"))
        session.all("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(UnavailableError) as caught:
        database.write(work)
    told(caught.value, url)
    database.close()
    assert calls == [1]
    assert store.cursor("x") == ""
    store.commit([a_run("a")])  # the lock of writers went with it


def test_a_commit_without_an_answer_is_not_repeated(url: str, store: Store) -> None:
    ask(
        url,
        "CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END'",
    )
    ask(
        url,
        "CREATE CONSTRAINT TRIGGER cut AFTER INSERT ON runs DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW WHEN (NEW.id = 'a') EXECUTE FUNCTION cut()",
    )
    with pytest.raises(UnavailableError, match="while a change was being recorded") as caught:
        store.commit([a_run("a")])
    told(caught.value, url)
    assert "may or may not" in caught.value.hint
    store.commit([a_run("b")])
    assert [(it.id, it.number) for it in store.runs(Query())] == [("b", 1)]


def test_too_many_clients_is_unavailable(url: str, store: Store) -> None:
    store.close()
    held = []
    try:
        with pytest.raises(psycopg.OperationalError):
            for _ in range(200):
                held.append(psycopg.connect(url))
        with pytest.raises(UnavailableError, match="too many connections") as caught:
            store.commit([a_run("a")])
        told(caught.value, url)
        assert caught.value.delay
    finally:
        for connection in held:
            connection.close()
    store.commit([a_run("a")])
    assert store.run("a").number == 1


@pytest.mark.parametrize(
    ("old", "new"), [(":", "-wrong:"), ("mlstead:", "mlstead:x"), ("/postgres?", "/nothing?")]
)
def test_who_may_not_come_in_is_told(url: str, old: str, new: str) -> None:
    scheme, rest = url.split("//", 1)
    with pytest.raises(UserError) as caught:
        create(f"{scheme}//{rest.replace(old, new, 1)}")
    told(caught.value, url)


def test_a_read_only_database_is_unavailable_for_writing(url: str, store: Store) -> None:
    store.commit([a_run("a")])
    other = create(url + "%20-cdefault_transaction_read_only%3Don")
    assert other.run("a").id == "a"
    with pytest.raises(UnavailableError, match="read-only") as caught:
        other.commit([a_run("b")])
    told(caught.value, url)
    other.close()


def test_a_writer_that_never_ends_is_told_of(
    url: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.close()
    monkeypatch.setattr(postgresql, "_SETTINGS", "SET lock_timeout = '50ms'")
    with psycopg.connect(url) as other:
        other.execute(Postgresql.begin_text)
        with pytest.raises(UnavailableError, match="kept the lock") as caught:
            store.commit([a_run("a")])
        told(caught.value, url)
        assert store.runs(Query()) == []  # reading goes on
        other.rollback()
    store.commit([a_run("a")])


def test_a_number_of_more_than_64_bits_is_refused(store: Store) -> None:
    store.commit([a_run("a")])
    with pytest.raises(UserError, match="cannot be recorded"):
        store.commit([AddPoints((Point("a", "x", 1.0, 2**70, 1.0),))])
    assert store.points() == []


def test_records_of_a_newer_mlstead_are_left_alone(url: str, store: Store) -> None:
    ask(url, "UPDATE mlstead_schema SET version_num = '9999'")
    with pytest.raises(UserError, match="newer mlstead"):
        create(url)


def test_a_schema_of_something_else_is_left_alone(url: str) -> None:
    ask(url, "CREATE TABLE experiments (id INTEGER)")
    with pytest.raises(UserError, match="something else"):
        create(url)


def shape(url: str) -> list[Any]:
    """List every column, index and constraint of a schema."""
    columns = ask(
        url,
        "SELECT table_name, column_name, ordinal_position, data_type, collation_name, "
        "is_nullable, column_default, is_identity FROM information_schema.columns "
        "WHERE table_schema = current_schema() ORDER BY 1, 3",
    )
    indexes = ask(
        url,
        "SELECT tablename, indexname, replace(indexdef, current_schema() || '.', '') "
        "FROM pg_indexes WHERE schemaname = current_schema() ORDER BY 1, 2",
    )
    constraints = ask(
        url,
        "SELECT conname, replace(pg_get_constraintdef(oid), current_schema() || '.', '') "
        "FROM pg_constraint WHERE connamespace = current_schema()::regnamespace ORDER BY 1",
    )
    counters = ask(url, "SELECT * FROM counters ORDER BY 1")
    return [columns, indexes, constraints, counters, ask(url, "SELECT * FROM mlstead_schema")]


def test_the_migrations_make_the_generated_schema(server: postgres_server.Server, url: str) -> None:
    create(url).close()
    ask(server.url, "CREATE SCHEMA migrated")
    other = f"{server.url}&options=-csearch_path%3Dmigrated"
    driver = Postgresql(other)
    upgrade.upgrade(driver.name, driver.connect_plain, driver.begin_text)
    assert shape(url) == shape(other)
    assert len(shape(url)[0]) > 90


def test_an_older_database_is_brought_up_with_its_rows(
    url: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.commit([a_run("a")])
    store.close()
    shutil.copytree(upgrade.REVISIONS_FOLDER, tmp_path / "revisions")
    (tmp_path / "revisions" / "v0002_test.py").write_text(NEXT)
    monkeypatch.setattr(generated, "HEAD", "0002")
    monkeypatch.setattr(generated, "REVISIONS", ("0001", "0002"))
    real = upgrade.upgrade
    monkeypatch.setattr(upgrade, "upgrade", lambda a, b, c: real(a, b, c, tmp_path / "revisions"))
    database = Database(Postgresql(url))
    database.ensure(ensure)
    newer = SqlStore(database)
    assert newer.run("a").number == 1
    assert ask(url, "SELECT id, colour FROM runs") == [("a", "red")]
    newer.commit([a_run("b")])
    newer.close()
