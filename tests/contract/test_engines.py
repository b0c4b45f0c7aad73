"""The engine contract over every engine that discover finds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlstead import discover, engines
from mlstead.engines.base import Engine, Place
from mlstead.engines.local.engine import LocalEngine
from mlstead.testing.engine_contract import EngineContract, Make
from mlstead.testing.engine_programs import ProgramsContract

# A cluster is needed for these: tests/cluster runs both suites over them.
IN_CLUSTERS = ["kubernetes"]
HERE = [name for name in discover.names(engines) if name not in IN_CLUSTERS]
# Engines that start what a task names; every other one keeps the first suite only.
RUNS_PROGRAMS = ["local"]


def engines_of(part: str, home: Path) -> Iterator[Make]:
    """Give a maker of engines that share a home, and end what they started."""
    made: list[Engine] = []

    def make() -> Engine:
        engine: Engine = discover.part(engines, part).create(Place(home))
        made.append(engine)
        return engine

    yield make
    for engine in made:
        if isinstance(engine, LocalEngine):
            engine.shutdown()


@pytest.mark.parametrize("part", HERE)
class TestEngines(EngineContract):
    @pytest.fixture
    def make(self, part: str, home: Path) -> Iterator[Make]:
        yield from engines_of(part, home)


@pytest.mark.parametrize("part", RUNS_PROGRAMS)
class TestEnginesWithPrograms(ProgramsContract):
    @pytest.fixture
    def make(self, part: str, home: Path) -> Iterator[Make]:
        yield from engines_of(part, home)
