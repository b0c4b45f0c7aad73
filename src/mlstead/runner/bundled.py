"""The ``mlstead`` a program imports when mlstead is not installed beside it.

``bundle`` copies this file to ``mlstead/__init__.py`` of a folder on PYTHONPATH. That folder is
searched before the installed packages, so this file first looks for an installed mlstead and, if
there is one, becomes it: it takes its path and runs its ``__init__`` in its own place. Without
one, it offers what a program needs: the names below.
"""

from __future__ import annotations

import importlib
import os
import sys
from importlib.machinery import BuiltinImporter, FrozenImporter, ModuleSpec, PathFinder
from typing import Any

PROGRAM = {
    "checkpoints": "mlstead.runner.folders",
    "inputs": "mlstead.runner.folders",
    "latest_checkpoint": "mlstead.runner.checkpoints",
    "log": "mlstead.runner.metrics",
    "outputs": "mlstead.runner.folders",
    "params": "mlstead.runner.folders",
    "save_checkpoint": "mlstead.runner.checkpoints",
    "should_stop": "mlstead.runner.stopping",
}
"""The names of the program's side, and the module each is in."""

MARK = "bundle.txt"
"""A file beside ``__init__.py`` that tells a bundle from an installed package."""


def __getattr__(name: str) -> Any:
    """Load a name when it is first used (PEP 562)."""
    if name not in PROGRAM:
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}; mlstead is not installed in this "
            f"environment, only its program's side: {', '.join(PROGRAM)}"
        )
    value = getattr(importlib.import_module(PROGRAM[name]), name)
    globals()[name] = value
    return value


def _installed() -> ModuleSpec | None:
    """Find an installed mlstead: on the path, or by an import hook of an editable install."""
    others = [
        entry
        for entry in sys.path
        if not os.path.exists(os.path.join(entry or ".", "mlstead", MARK))  # noqa: PTH110, PTH118
    ]
    found = PathFinder.find_spec("mlstead", others)
    for finder in sys.meta_path:
        if found is not None and found.origin is not None:
            break
        if finder not in (BuiltinImporter, FrozenImporter, PathFinder):
            found = finder.find_spec("mlstead", None)
    if found is None or found.origin is None or found.loader is None:
        return None  # nothing, or a folder that merely has the name
    return found


def _become(real: ModuleSpec) -> None:
    """Turn this module into the installed package, as if it had been found first."""
    module = sys.modules[__name__]
    for name in [name for name in vars(module) if not name.endswith("__")] + ["__getattr__"]:
        delattr(module, name)
    module.__spec__ = real
    module.__loader__ = real.loader
    module.__file__ = real.origin
    module.__path__ = list(real.submodule_search_locations or ())
    if real.loader is not None:
        real.loader.exec_module(module)


if __name__ == "mlstead" and (real := _installed()) is not None:
    _become(real)
