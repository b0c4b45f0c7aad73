"""SQLite under faults: a full disk, a killed writer, a home that cannot be written, an old file."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlstead.records.base import AddRun, Point, Query, Run, State
from mlstead.records.sql import create

NOBODY = 65534
OLD = Path(__file__).with_name("old")
WRITE = """
import itertools, resource, sys
from mlstead.errors import PlatformError
from mlstead.records.base import AddEvents, AddPoints, AddRun, Event, Point, Run, SetRun, State
from mlstead.records.sql import create

url, name, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = create(url)
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
for at in itertools.count():
    run = f"{name}-{at}"
    try:
        store.commit([
            AddRun(Run(run, "p", "job", name, detail="x" * 2000)),
            AddEvents((Event(run, "submitted", 1.0),)),
            AddPoints(tuple(Point(run, "loss", float(it), it, 1.0) for it in range(5))),
            SetRun(run, {"state": State.RUNNING}),
        ])
    except PlatformError as error:
        print(type(error).__name__, "|", error, "|", error.hint, flush=True)
        break
    print(run, flush=True)
"""
AS_NOBODY = """
import os, sys
from mlstead.errors import PlatformError
from mlstead.records.base import AddRun, Query, Run
from mlstead.records.sql import create

if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(int(sys.argv[2]))
    os.setuid(int(sys.argv[2]))
try:
    store = create(sys.argv[1])
    print("read", len(store.runs(Query())))
    store.commit([AddRun(Run("b", "p", "job", "b"))])
    print("written")
except PlatformError as error:
    print(type(error).__name__, "|", error, "|", error.hint)
"""


def python(code: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True)


def read_all(child: subprocess.Popen[str]) -> list[str]:
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    return out.splitlines()


def whole(path: Path) -> bool:
    connection = sqlite3.connect(path)
    try:
        checked = connection.execute("PRAGMA integrity_check").fetchall()
        return (
            checked == [("ok",)] and not connection.execute("PRAGMA foreign_key_check").fetchall()
        )
    finally:
        connection.close()


def assert_all_or_nothing(url: str, acknowledged: list[str]) -> int:
    """Hold each commit of ``WRITE`` to be there whole or not at all; give how many are there."""
    store = create(url)
    found = store.runs(Query(limit=0))
    assert set(acknowledged) <= {it.id for it in found}
    assert all(it.state is State.RUNNING for it in found)
    assert [it.number for it in found] == list(range(len(found), 0, -1))
    assert all(len(store.events(it.id)) == 1 for it in found)
    points = store.points(limit=10**6)
    assert [it.number for it in points] == list(range(1, 5 * len(found) + 1))
    assert {it.run_id for it in points} == {it.id for it in found}
    store.close()
    return len(found)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Give a folder that another account may reach, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="ml-records-"))
    folder.chmod(0o755)
    yield folder
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755)
    shutil.rmtree(folder)


def test_a_disk_that_takes_no_more_leaves_whole_records(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    url = f"sqlite:///{path}"
    *acknowledged, error = read_all(python(WRITE, url, "a", str(600_000)))
    kind, message, hint = error.split(" | ")
    assert kind == "UnavailableError" and str(path) in message and "disk" in message and hint
    assert acknowledged
    assert whole(path)
    assert assert_all_or_nothing(url, acknowledged) == len(acknowledged)
    store = create(url)  # space was freed: it goes on
    store.commit([AddRun(Run("after", "p", "job", "a"))])
    assert store.run("after").number == len(acknowledged) + 1
    store.close()


def test_killed_writers_leave_whole_records(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    url = f"sqlite:///{path}"
    acknowledged: list[str] = []
    for turn in range(5):
        children = [python(WRITE, url, f"{who}{turn}", "0") for who in "ab"]
        for child in children:
            assert child.stdout is not None
            acknowledged += [child.stdout.readline().strip() for _ in range(20 + 7 * turn)]
        for child in children:
            child.send_signal(signal.SIGKILL)
        for child in children:
            rest, _ = child.communicate(timeout=60)
            acknowledged += rest.splitlines()[:-1]  # the last line may be torn
    assert whole(path)
    assert assert_all_or_nothing(url, acknowledged) >= len(acknowledged) > 200


def test_a_home_that_cannot_be_written_is_told_of(open_folder: Path) -> None:
    open_folder.chmod(0o555)
    url = f"sqlite:///{open_folder}/new/r.db"
    (said,) = read_all(python(AS_NOBODY, url, str(NOBODY)))
    kind, message, hint = said.split(" | ")
    assert kind == "UserError" and "Permission denied" in message and "MLSTEAD_HOME" in hint


def test_records_that_cannot_be_written_are_told_of(open_folder: Path) -> None:
    path = open_folder / "r.db"
    url = f"sqlite:///{path}"
    store = create(url)
    store.commit([AddRun(Run("a", "p", "job", "a"))])
    store.close()
    path.chmod(0o444)
    *_, said = read_all(python(AS_NOBODY, url, str(NOBODY)))
    kind, message, hint = said.split(" | ")
    assert kind in ("UnavailableError", "UserError") and str(path) in message and hint
    assert [it.id for it in store.runs(Query())] == ["a"]
    store.close()


def test_records_of_somebody_else_are_told_of(open_folder: Path) -> None:
    path = open_folder / "r.db"
    create(f"sqlite:///{path}").close()
    path.chmod(0o000 if os.geteuid() else 0o600)
    (said,) = read_all(python(AS_NOBODY, f"sqlite:///{path}", str(NOBODY)))
    kind, message, hint = said.split(" | ")
    assert kind == "UserError" and "cannot be opened" in message and hint


@pytest.mark.parametrize("dump", sorted(OLD.glob("*.sql")), ids=lambda it: it.stem)
def test_records_of_each_earlier_schema_open_here(tmp_path: Path, dump: Path) -> None:
    connection = sqlite3.connect(tmp_path / "r.db")
    connection.executescript(dump.read_text(encoding="utf-8"))
    connection.close()
    store = create(f"sqlite:///{tmp_path}/r.db")
    run = store.run("train-aaaa1111")
    assert (run.number, run.state, run.params) == (1, State.SUCCEEDED, {"lr": 0.1})
    assert [it.name for it in store.events(run.id)] == ["queued", "succeeded"]
    assert store.best(run.id, "loss", "min") == Point(run.id, "loss", 0.25, 2, 3.0, number=2)
    assert store.version("p", "model", "fashion", "production").digest == "d2"
    assert store.next_number("p", "model", "fashion") == 4
    assert [it.slot for it in store.links([run.id])] == ["faces", "model"]
    assert store.cursor("engine") == "7" and store.outgoing(9.0)[0].to == "slack"
    cached = store.cache("key")
    assert cached is not None and cached.run_id == run.id
    lease = store.claim(run.id, "me", 5.0)
    assert lease is not None and lease.fence == 2
    store.commit([AddRun(Run("new", "p", "job", "new"))], lease=lease)
    assert store.run("new").number == 2
    store.close()


def test_there_is_a_dump_of_the_first_schema() -> None:
    assert (OLD / "0001.sql").exists()


def test_another_writer_that_stopped_in_its_commit_holds_nobody_for_ever(tmp_path: Path) -> None:
    """A stopped process keeps its lock; killing it frees the records at once."""
    path = tmp_path / "r.db"
    create(f"sqlite:///{path}").close()
    code = (
        "import sqlite3, sys, time; c = sqlite3.connect(sys.argv[1], isolation_level=None); "
        "c.execute('BEGIN IMMEDIATE'); c.execute(\"INSERT INTO cursors VALUES ('x', 'y')\"); "
        "print('locked', flush=True); time.sleep(600)"
    )
    child = python(code, str(path))
    assert child.stdout is not None and child.stdout.readline() == "locked\n"
    child.kill()
    child.communicate(timeout=60)
    store = create(f"sqlite:///{path}")
    store.commit([AddRun(Run("a", "p", "job", "a"))])
    assert store.cursor("x") == ""
    store.close()
