"""A home in memory, with pipelines turned by the real loop: no process is started."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlstead.artifacts import folder
from mlstead.artifacts.code import CodeStore
from mlstead.engines.memory import MemoryEngine
from mlstead.platform.context import Context
from mlstead.platform.runs import Runs
from mlstead.records.base import Query, Run
from mlstead.records.memory import MemoryStore
from mlstead.spec.load import parse
from mlstead.work import submit
from mlstead.work.base import Backends
from mlstead.work.drive import Loop

SECONDS = 60


class NoSecrets:
    """A place with no secrets in it."""

    def get(self, name: str) -> str:
        raise KeyError(name)

    def names(self) -> list[str]:
        return []


class CountingStore(MemoryStore):
    """Counts what is read and written."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()

    def run(self, run_id: str) -> Run:
        self.asked["run"] += 1
        return super().run(run_id)

    def runs(self, query: Query) -> list[Run]:
        found = super().runs(query)
        self.asked["listed"] += len(found)
        return found

    def commit(self, changes: Sequence[Any], **more: Any) -> None:
        self.asked["commit"] += 1
        super().commit(changes, **more)


@dataclass
class Bench:
    """What a test of a driver works with."""

    backends: Backends
    store: CountingStore = field(default_factory=CountingStore)

    def submit(self, text: str) -> Run:
        work = parse(text)
        run = submit.draft(self.backends, work, self.backends.home, "p")
        submit.record(self.backends, run)
        return run

    def resume(self, run: Run) -> None:
        Runs(self.backends, Context("memory"), "p").resume(run.id)

    @contextlib.contextmanager
    def loop(self) -> Iterator[Loop]:
        loop = Loop(self.backends)
        try:
            yield loop
        finally:
            loop.close()

    def children(self, run: Run) -> dict[str, Run]:
        found = MemoryStore.runs(self.store, Query(parent=run.id, limit=0))
        return {child.key: child for child in found}


def until(loop: Loop, holds: Callable[[], bool]) -> None:
    """Turn the loop until something holds."""
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end, "it did not happen"
        loop.turn(0.01)


def bench(home: Path, clock: Callable[[], float] = time.time) -> Bench:
    """Make a home in memory; its engine follows the clock."""
    engine, store = MemoryEngine(home, clock), CountingStore()
    backends = Backends(
        home=home,
        engine=engine,
        facts=engine.facts(),
        store=store,
        artifacts=folder.create(str(home / "store"), home / "cache"),
        code=CodeStore(home / "code.git", home),
        secrets=NoSecrets(),
        clock=time.time,
    )
    return Bench(backends, store)
