"""The tree of a spec text, in which every part knows its place."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from mlstead.errors import SpecError
from mlstead.spec.problems import Path, Place, Problem, line, spec_error
from mlstead.spec.scalars import Scalar


@dataclass(frozen=True, slots=True)
class Source:
    """A text and the name it is called by in errors."""

    name: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a node starts and ends.

    Attributes:
        source: the text it stands in.
        line: from 1; 0 for what did not come from a file.
        column: from 1.
        start: index of its first character.
        end: index after its last character.
    """

    source: Source
    line: int
    column: int
    start: int
    end: int

    @property
    def place(self) -> Place:
        """The place people are told."""
        return Place(self.source.name, self.line, self.column)

    def of(self, snippet: str, nth: int) -> Place:
        """Find a part of this node's text; the node's own place if it is not there."""
        at = self.start - 1
        for _ in range(nth + 1):
            at = self.source.text.find(snippet, at + 1, self.end)
            if at < 0 or not snippet or not self.line:
                return self.place
        return place_at(self.source, at)


@dataclass(frozen=True, slots=True)
class Leaf:
    """A text, number, truth value or null."""

    value: Scalar
    mark: Mark


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    items: "tuple[Node, ...]"
    mark: Mark


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a map with its value."""

    key: Mark
    node: "Node"


@dataclass(frozen=True, slots=True)
class Map:
    """A map, in the order it was written."""

    entries: dict[str, Entry]
    mark: Mark

    def get(self, key: str) -> "Node | None":
        """Give the node under a key, or None."""
        entry = self.entries.get(key)
        return entry.node if entry else None


Node = Leaf | Items | Map


def plain(node: Node) -> Any:
    """Give the node as plain Python data."""
    if isinstance(node, Map):
        return {key: plain(entry.node) for key, entry in node.entries.items()}
    if isinstance(node, Items):
        return [plain(item) for item in node.items]
    return node.value


def place(root: Node, problem: Problem) -> Place:
    """Find where a problem stands; the nearest part around it if it is not written."""
    node, mark = root, root.mark
    whole = True
    for index, part in enumerate(problem.path):
        last = index == len(problem.path) - 1
        if isinstance(node, Map) and part in node.entries:
            entry = node.entries[str(part)]
            node, mark = entry.node, entry.key if last and problem.at_key else entry.node.mark
        elif isinstance(node, Items) and isinstance(part, int) and part < len(node.items):
            node = node.items[part]
            mark = node.mark
        else:
            whole = False
            break
    return mark.of(problem.snippet, problem.nth) if whole and problem.snippet else mark.place


def explain(root: Node, problems: Iterable[Problem]) -> SpecError:
    """Make one error of all problems, in the order of the text."""
    found: dict[tuple[Place, str, Path], Problem] = {}
    for problem in problems:
        # What all steps inherit from one place is told once.
        key = (place(root, problem), problem.message, problem.path[-1:])
        found.setdefault(key, problem)
    rows = sorted(found.items(), key=lambda row: _order(row[0][0]))
    return spec_error([line(key[0], it.path, it.message, it.hint) for key, it in rows])


def _order(at: Place) -> tuple[str, int, int]:
    return at.origin, at.line, at.column


def place_at(source: Source, index: int) -> Place:
    """Give the place of a character."""
    before = source.text[:index]
    return Place(source.name, before.count("\n") + 1, index - before.rfind("\n"))
