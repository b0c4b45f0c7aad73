"""Makes the local engine, and loads it only then: supervising processes do without it."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlstead.engines.local.engine import LocalEngine


def create(home: Path) -> "LocalEngine":
    """Make the engine that keeps its tasks under ``home``; touches nothing yet.

    Raises:
        UserError: this system is not Linux.
    """
    engine: LocalEngine = importlib.import_module("mlstead.engines.local.engine").LocalEngine(home)
    return engine
