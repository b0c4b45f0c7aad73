"""A home, the verbs on it, and an end of everything it started."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.local.front_door import Door, environment

from mlstead.engines.local.engine import LocalEngine


@pytest.fixture
def door(home: Path) -> Iterator[Door]:
    """Give the command line on a new home."""
    home.mkdir(parents=True, exist_ok=True)
    yield Door(home, environment(home))
    LocalEngine(home).shutdown()
