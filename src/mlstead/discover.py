"""Finds the parts of a package by file name: one file (or folder), one part."""

import importlib
import pkgutil
from types import ModuleType

from mlstead.errors import NotFoundError


def names(package: ModuleType) -> list[str]:
    """Name every part: modules and sub-packages, less ``base`` and private ones."""
    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(name for name in found if name != "base" and not name.startswith("_"))


def part(package: ModuleType, name: str) -> ModuleType:
    """Import one part, only when it is asked for.

    Raises:
        NotFoundError: the package has no part of that name.
    """
    if name not in names(package):
        raise NotFoundError(
            f"{package.__name__}: no {name!r}", hint="known: " + ", ".join(names(package))
        )
    return importlib.import_module(f"{package.__name__}.{name}")
