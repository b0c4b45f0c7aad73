"""A work or site file that was read, and where it lies; apart so that naming it loads no model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the models take 20 ms to load, and listing runs needs none of them
    from mlstead.spec.nodes import Map
    from mlstead.spec.site import Site
    from mlstead.spec.work import Work


@dataclass(frozen=True, slots=True)
class Loaded:
    """A work, the folder its relative paths start from, its text, and where each part stands."""

    work: Work
    folder: Path
    source: str
    tree: Map | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class LoadedSite:
    """A site, the folder its relative paths start from, its text, and where each part stands."""

    site: Site
    folder: Path
    source: str
    tree: Map = field(repr=False, compare=False)
