"""Makes the local engine, and loads it only then: supervising processes do without it."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlstead.engines.base import Place
    from mlstead.engines.local.engine import LocalEngine


def create(place: "Place") -> "LocalEngine":
    """Make the engine that keeps its tasks under the home folder; touches nothing yet.

    Raises:
        UserError: this system is not Linux.
    """
    engine: LocalEngine = importlib.import_module("mlstead.engines.local.engine").LocalEngine(
        place.home
    )
    return engine
