"""The store contract over every store: memory, SQLite, and a real PostgreSQL."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import psycopg
import pytest
from tests.contract import postgres_server

from mlstead import discover, records
from mlstead.records.base import Store
from mlstead.testing.store_contract import StoreContract
from mlstead.testing.store_crowd import SIZE, Place

# A part that discover finds and that has no line here fails the whole module.
DATABASES = {"memory": ["memory"], "sql": ["sqlite", "postgresql"]}
STORES = [
    pytest.param(part, database, id=database)
    for part in discover.names(records)
    for database in DATABASES[part]
]


@pytest.fixture(scope="module")
def server() -> Iterator[postgres_server.Server]:
    server = postgres_server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def processes() -> Iterator[Executor]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(SIZE, mp_context=context) as pool:
        for call in [pool.submit(int) for _ in range(SIZE)]:  # each starts one process
            call.result()
        yield pool


@pytest.fixture(scope="module")
def threads() -> Iterator[Executor]:
    with ThreadPoolExecutor(SIZE) as pool:
        yield pool


@pytest.fixture(scope="module", autouse=True)
def _started(server: postgres_server.Server, processes: Executor) -> None:
    """Start both outside of any test's home, which ends what was started in it."""


def open_store(part: str, url: str) -> Store:
    store: Store = discover.part(records, part).create(url)
    return store


def emptied(url: str) -> str:
    """Empty every table of ours (quicker than a new database for each test); give the URL."""
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
        )
        tables = {row[0] for row in found} - {"mlstead_schema", "counters"}
        if tables:
            connection.execute(f"TRUNCATE {', '.join(sorted(tables))} RESTART IDENTITY")
            connection.execute("UPDATE counters SET value = 0")
    return url


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, part: str, database: str) -> Place:
    door: Callable[[], Store]
    if database == "memory":
        store = open_store(part, "memory:")
        return Place(lambda: store, request.getfixturevalue("threads"))
    if database == "sqlite":
        url = f"sqlite:///{tmp_path}/a folder/records.db"
    else:
        url = emptied(request.getfixturevalue("server").url)
    door = partial(open_store, part, url)
    return Place(door, request.getfixturevalue("processes"))


@pytest.mark.parametrize(("part", "database"), STORES)
class TestStores(StoreContract):
    """The whole contract."""

    @pytest.fixture(autouse=True)
    def _named(self, part: str, database: str) -> None:
        """Take the parameters that ``place`` needs, in the contract's tests, too."""
