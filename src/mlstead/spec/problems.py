"""What is wrong with a spec, and how it is told: one line each, with its place."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from mlstead.errors import SpecError

MOST: Final = 20
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a text.

    Attributes:
        origin: the file, or where else the text came from.
        line: the line, from 1; 0 if the text has no lines worth naming.
        column: the character in the line, from 1.
    """

    origin: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.origin}:{self.line}:{self.column}" if self.line else self.origin


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        path: the field, as keys and indices from the top.
        message: what is wrong, in one line.
        hint: what to do about it; may be empty.
        snippet: the part of the field's text that is meant; empty: all of it.
        nth: which occurrence of the snippet, from 0.
        at_key: whether the key is meant, not the value.
    """

    path: Path
    message: str
    hint: str = ""
    snippet: str = ""
    nth: int = 0
    at_key: bool = False

    def under(self, prefix: Path) -> "Problem":
        """Give the same problem of a field that stands deeper."""
        return Problem(
            prefix + self.path, self.message, self.hint, self.snippet, self.nth, self.at_key
        )


def dotted(path: Iterable[str | int]) -> str:
    """Write a path as people do: ``steps.train.command[0]``."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return "".join(parts).removeprefix(".")


def close(word: str, known: Iterable[str]) -> str:
    """Give a hint that names the nearest known word; empty if none is near."""
    found = difflib.get_close_matches(word, sorted(set(known)), n=1, cutoff=0.6)
    return f"did you mean {found[0]}?" if found else ""


def nearest(word: str, known: Iterable[str]) -> str:
    """Give a hint that names the nearest known word, or else some of those known."""
    words = sorted(set(known))
    some = ", ".join(words[:12]) + (", …" if len(words) > 12 else "")
    return close(word, words) or (f"known: {some}" if words else "")


def line(place: Place | str, path: Path, message: str, hint: str = "") -> str:
    """Write one problem as one line: ``file:line:column: field.path: message; hint``."""
    field = f"{dotted(path)}: " if path else ""
    text = f"{place}: {field}{message}" + (f"; {hint}" if hint else "")
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def spec_error(lines: Sequence[str]) -> SpecError:
    """Make one error of all lines, of which at most twenty are shown."""
    shown = list(dict.fromkeys(lines))
    if len(shown) > MOST:
        shown = [*shown[:MOST], f"… and {len(shown) - MOST} more"]
    return SpecError("\n".join(shown))
