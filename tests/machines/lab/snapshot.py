"""What a host looked like: plain data that can be kept as JSON, and the difference of two."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

# Section (files, users, packages, network …) -> name -> what was told of it.
Snapshot = dict[str, dict[str, str]]
PROGRAM = Path(__file__).with_name("look.py")


def difference(before: Snapshot, after: Snapshot, allow: Sequence[str] = ()) -> list[str]:
    """List what two snapshots differ in, a line for each thing.

    Args:
        before: the earlier one.
        after: the later one.
        allow: patterns (``*`` and ``?``) of ``SECTION NAME``, such as ``files /var/lib/x/*``, that
            may differ.
    """
    lines = []
    for section in sorted({*before, *after}):
        old, new = before.get(section, {}), after.get(section, {})
        for name in sorted({*old, *new}):
            thing = f"{section} {name}"
            if old.get(name) != new.get(name) and not _allowed(thing, allow):
                lines.append(_told(thing, old.get(name), new.get(name)))
    return lines


def _allowed(thing: str, allow: Sequence[str]) -> bool:
    return any(fnmatchcase(thing, pattern) for pattern in allow)


def _told(thing: str, old: str | None, new: str | None) -> str:
    if old is None:
        return f"{thing}: new, {new}"
    if new is None:
        return f"{thing}: gone, was {old}"
    return f"{thing}: {new}, was {old}"


def checked(told: Any) -> Snapshot:
    """Hold what a host told to the shape of a snapshot."""
    return {
        str(section): {str(name): str(text) for name, text in things.items()}
        for section, things in told.items()
    }
