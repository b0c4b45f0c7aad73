"""SQLite beyond the contract: the file, its errors in one line, threads and forks."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mlstead.errors import NotFoundError, PlatformError, UnavailableError, UserError
from mlstead.records.base import AddEvents, AddPoints, AddRun, Event, Point, Query, Run, Store
from mlstead.records.sql import SqlStore, create
from mlstead.records.sql.database import Database, clean
from mlstead.records.sql.driver import Connection
from mlstead.records.sql.schema import ensure
from mlstead.records.sql.sqlite import Sqlite


def a_run(run_id: str) -> AddRun:
    return AddRun(Run(run_id, "p", "job", run_id))


def open_with(driver: Sqlite) -> Store:
    database = Database(driver)
    database.ensure(ensure)
    return SqlStore(database)


def told(error: PlatformError, path: Path) -> None:
    """Hold an error to one line that names the file, and a hint."""
    assert str(path) in str(error) and "\n" not in str(error)
    assert error.hint and "\n" not in error.hint


class SmallDisk(Sqlite):
    """A file that SQLite may not let grow, as on a full disk."""

    pages = 0

    def connect(self) -> Connection:
        connection = super().connect()
        if self.pages:
            connection.execute(f"PRAGMA max_page_count={self.pages}")
        return connection


def test_the_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    was = os.umask(0)
    try:
        store = create(f"sqlite:///{tmp_path}/new/deep/records.db")
        store.commit([a_run("a")])
        files = sorted((tmp_path / "new" / "deep").iterdir())
        assert [it.name for it in files] == ["records.db", "records.db-shm", "records.db-wal"]
        assert {it.stat().st_mode & 0o777 for it in files} == {0o600}
        store.close()
    finally:
        os.umask(was)


def test_the_path_is_taken_as_it_is(tmp_path: Path) -> None:
    create(f"sqlite:///{tmp_path}/a b%20c?d#e.db").close()
    assert (tmp_path / "a b%20c?d#e.db").exists()


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "mysql://h/d", "records.db", ""]
)
def test_what_is_no_url_of_a_database_is_refused(url: str) -> None:
    with pytest.raises(UserError) as caught:
        create(url)
    assert "postgresql://" in caught.value.hint


def test_a_url_that_cannot_be_read_does_not_leak_its_password() -> None:
    with pytest.raises(UserError) as caught:
        create("postgresql://me:canary@host:port:x/%zz?=")
    assert "canary" not in str(caught.value) + caught.value.hint


def test_a_full_disk_says_so_and_what_was_written_stays(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    driver = SmallDisk(path)
    store = open_with(driver)
    store.commit([a_run("a")])
    store.close()
    driver.pages = 1  # not below what is there already
    with pytest.raises(UnavailableError, match="disk is full") as caught:
        store.commit([AddRun(Run("b", "p", "job", "b", detail="x" * 10**6))])
    told(caught.value, path)
    with pytest.raises(NotFoundError):
        store.run("b")
    driver.pages = 0
    store.close()
    store.commit([a_run("c")])
    assert [it.id for it in store.runs(Query())] == ["c", "a"]
    store.close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def test_a_writer_that_never_ends_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    store = open_with(Sqlite(path, patience=0.05))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(UnavailableError, match="locked") as caught:
        store.commit([a_run("a")])
    told(caught.value, path)
    assert store.runs(Query()) == []  # reading goes on
    other.execute("ROLLBACK")
    other.close()
    store.commit([a_run("a")])
    assert len(store.runs(Query())) == 1
    store.close()


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    path.write_text("this is a letter, not a database\n" * 100)
    with pytest.raises(UserError, match="not a database") as caught:
        create(f"sqlite:///{path}")
    told(caught.value, path)
    assert path.read_text().startswith("this is a letter")


def test_a_damaged_file_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    store = create(f"sqlite:///{path}")
    store.commit([a_run(f"r{at}") for at in range(300)])
    store.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    with pytest.raises(UserError, match="damaged") as caught:
        create(f"sqlite:///{path}").runs(Query(limit=0))
    told(caught.value, path)


def test_a_folder_in_the_place_of_the_file_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be opened") as caught:
        create(f"sqlite:///{tmp_path}")
    told(caught.value, tmp_path)


def test_a_file_in_the_place_of_the_folder_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot be made") as caught:
        create(f"sqlite:///{tmp_path}/file/r.db")
    told(caught.value, tmp_path / "file" / "r.db")


def test_a_number_of_more_than_64_bits_is_refused(tmp_path: Path) -> None:
    store = create(f"sqlite:///{tmp_path}/r.db")
    store.commit([a_run("a")])
    with pytest.raises(UserError, match="too large"):
        store.commit([AddPoints((Point("a", "x", 1.0, 2**70, 1.0),))])
    assert store.points() == []
    store.close()


def test_a_lease_from_the_future_is_not_believed(tmp_path: Path) -> None:
    store = create(f"sqlite:///{tmp_path}/r.db")
    first = store.claim("a", "x", 10.0)
    connection = sqlite3.connect(tmp_path / "r.db")
    with connection:  # the clock of the machine was an hour ahead, then set right
        connection.execute("UPDATE leases SET taken = taken + 3600, expires = expires + 3600")
    connection.close()
    second = store.claim("a", "y", 10.0)
    assert first is not None and second is not None and second.fence > first.fence
    store.close()


def test_text_that_no_database_keeps_is_replaced(tmp_path: Path) -> None:
    assert clean("a\0b") == "a\ufffdb"
    assert clean("a\ud800b") == "a?b"
    assert clean("né") == "né" and clean(3) == 3 and clean(None) is None
    store = create(f"sqlite:///{tmp_path}/r.db")
    store.commit([a_run("a"), AddEvents((Event("a", "x\0y", 1.0),))])
    assert [it.name for it in store.events("a")] == ["x\ufffdy"]
    store.close()


def test_threads_share_a_store(tmp_path: Path) -> None:
    store = create(f"sqlite:///{tmp_path}/r.db")

    def work(at: int) -> int:
        for turn in range(20):
            store.commit([a_run(f"t{at}-{turn}")])
            assert store.run(f"t{at}-{turn}").name == f"t{at}-{turn}"
        return at

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(work, range(8))) == list(range(8))
    assert sorted(it.number for it in store.runs(Query(limit=0))) == list(range(1, 161))
    store.close()


def test_a_fork_opens_its_own_connections(tmp_path: Path) -> None:
    store = create(f"sqlite:///{tmp_path}/r.db")
    store.commit([a_run("parent")])
    child = multiprocessing.get_context("fork").Process(
        target=lambda: store.commit([a_run("child")])
    )
    child.start()
    child.join(30)
    assert child.exitcode == 0
    store.commit([a_run("after")])
    assert [it.id for it in store.runs(Query())] == ["after", "child", "parent"]
    store.close()


def test_a_large_list_of_ids_is_read_in_portions(tmp_path: Path) -> None:
    store = create(f"sqlite:///{tmp_path}/r.db")
    names = [f"r{at}" for at in range(1200)]
    store.commit([a_run(name) for name in names])
    store.commit([AddPoints(tuple(Point(name, "x", 1.0, 1, 1.0) for name in names))])
    assert list(store.latest(names)) == names
    assert all(found["x"].value == 1.0 for found in store.latest(names).values())
    assert len(store.counts(names)) == 1200
    store.close()
