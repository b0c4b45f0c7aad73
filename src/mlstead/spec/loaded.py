"""A work file that was read, and where it lies; apart so that naming it loads no model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the models take 20 ms to load, and listing runs needs none of them
    from mlstead.spec.work import Work


@dataclass(frozen=True, slots=True)
class Loaded:
    """A work, the folder its relative paths start from, and its text."""

    work: Work
    folder: Path
    source: str
