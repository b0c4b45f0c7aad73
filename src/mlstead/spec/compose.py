"""YAML text read into a tree of nodes; the limits on it, and what YAML is not used for."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml  # type: ignore[import-untyped]

from mlstead.errors import SpecError
from mlstead.spec.nodes import Entry, Items, Leaf, Map, Mark, Node, Source, place_at
from mlstead.spec.problems import Place, line, spec_error
from mlstead.spec.scalars import Scalar, resolve

MOST_BYTES: Final = 1 << 20
MOST_DEPTH: Final = 50
MOST_ALIASES: Final = 100
MOST_NODES: Final = 250_000
"""Parts of one file, counting what aliases repeat."""

# The C parser is 30 times faster; a build without it still works.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def compose(source: Source) -> Node:
    """Read one YAML document.

    Raises:
        SpecError: it is not YAML, or over a limit, or has duplicate keys, merge keys, tags,
            a second document, or nothing at all.
    """
    if len(source.text.encode("utf-8", "surrogatepass")) > MOST_BYTES:
        raise SpecError(f"{source.name}: larger than 1 MiB, the most a spec may have")
    _plain_breaks(source)
    try:
        return _Composer(source).document()
    except yaml.YAMLError as error:
        raise _not_yaml(source, error) from error
    except UnicodeEncodeError as error:
        raise SpecError(f"{source.name}: a lone surrogate is no text") from error


@dataclass(slots=True)
class _Anchor:
    """A node that aliases may repeat, and how much they repeat then."""

    node: Node
    nodes: int
    height: int


class _Composer:
    """Builds the tree from the parser's events, and stops at the first broken limit."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._events = _Loader(source.text)
        self._anchors: dict[str, _Anchor | None] = {}
        self._aliases = 0
        self._nodes = 0
        self._end: Any = None  # of what was read last, without the white space after it

    def document(self) -> Node:
        self._next()
        start = self._next()
        if isinstance(start, yaml.StreamEndEvent):
            raise SpecError(f"{self._source.name}: empty")
        root, _ = self._node(self._next(), 0)
        self._next()
        rest = self._next()
        if not isinstance(rest, yaml.StreamEndEvent):
            raise self._error(rest, "a second document; one file holds one object")
        return root

    def _next(self) -> Any:
        return self._events.get_event()

    def _mark(self, start: Any, end: Any) -> Mark:
        return Mark(self._source, start.line + 1, start.column + 1, start.index, end.index)

    def _error(self, event: Any, message: str, hint: str = "") -> SpecError:
        mark = event.start_mark
        where = Place(self._source.name, mark.line + 1, mark.column + 1)
        return spec_error([line(where, (), message, hint)])

    def _count(self, event: Any, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MOST_NODES:
            raise self._error(
                event, f"more than {MOST_NODES:,} parts, counting what aliases repeat"
            )

    def _node(self, event: Any, depth: int) -> tuple[Node, int]:
        """Build the node that starts with this event; give it and its height."""
        self._end = event.end_mark
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth)
        if event.tag is not None:
            raise self._error(event, f"tag {event.tag}: tags are not used", "leave it out")
        anchor, before = event.anchor, self._nodes
        self._count(event, 1)
        if anchor is not None:
            self._anchors[anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            node: Node = self._leaf(event)
            height = 0
        else:
            if depth >= MOST_DEPTH:
                raise self._error(event, f"nested deeper than {MOST_DEPTH} levels")
            build = self._map if isinstance(event, yaml.MappingStartEvent) else self._items
            node, height = build(event, depth + 1)
        if anchor is not None:
            self._anchors[anchor] = _Anchor(node, self._nodes - before, height)
        return node, height

    def _alias(self, event: Any, depth: int) -> tuple[Node, int]:
        self._aliases += 1
        if self._aliases > MOST_ALIASES:
            raise self._error(event, f"more than {MOST_ALIASES} aliases")
        if event.anchor not in self._anchors:
            raise self._error(event, f"alias *{event.anchor} has no anchor")
        anchor = self._anchors[event.anchor]
        if anchor is None:
            raise self._error(event, f"alias *{event.anchor} repeats what it stands in")
        self._count(event, anchor.nodes)
        if depth + anchor.height > MOST_DEPTH:
            raise self._error(event, f"nested deeper than {MOST_DEPTH} levels")
        return anchor.node, anchor.height

    def _leaf(self, event: Any) -> Leaf:
        value: Scalar = event.value
        if event.implicit[0]:
            try:
                value = resolve(event.value)
            except ValueError as error:
                raise self._error(event, str(error)) from error
        elif "\0" in event.value:
            raise self._error(event, "a NUL character is not allowed")
        return Leaf(value, self._mark(event.start_mark, event.end_mark))

    def _until(self, end: Any, start: Any) -> Iterator[Any]:
        while not isinstance(event := self._next(), end):
            yield event
        if start.flow_style:
            self._end = event.end_mark

    def _items(self, start: Any, depth: int) -> tuple[Node, int]:
        items, height = [], 0
        for event in self._until(yaml.SequenceEndEvent, start):
            node, inner = self._node(event, depth)
            items.append(node)
            height = max(height, inner)
        return Items(tuple(items), self._mark(start.start_mark, self._end)), height + 1

    def _map(self, start: Any, depth: int) -> tuple[Node, int]:
        entries: dict[str, Entry] = {}
        height = 0
        for event in self._until(yaml.MappingEndEvent, start):
            key = self._key(event, entries)
            node, inner = self._node(self._next(), depth)
            entries[key] = Entry(self._mark(event.start_mark, event.end_mark), node)
            height = max(height, inner)
        return Map(entries, self._mark(start.start_mark, self._end)), height + 1

    def _key(self, event: Any, entries: dict[str, Entry]) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            hint = "expressions are written ${{ … }} and quoted" if self._braces(event) else ""
            raise self._error(event, "a key must be a text", hint)
        if event.tag is not None:
            raise self._error(event, f"tag {event.tag}: tags are not used", "leave it out")
        key: str = event.value
        if event.anchor is not None:
            raise self._error(event, "an anchor cannot stand on a key")
        if key == "<<" and event.implicit[0]:
            raise self._error(event, "merge keys are not used", "write the fields out")
        if key in entries:
            first = entries[key].key
            message = f"duplicate key {key}; first in line {first.line}"
            raise self._error(event, message)
        if not key or "\0" in key:
            raise self._error(event, "a key must be a text")
        return key

    def _braces(self, event: Any) -> bool:
        return self._source.text.startswith("{", event.start_mark.index)


def _plain_breaks(source: Source) -> None:
    """Refuse what ends a line in YAML 1.1, which the parser reads, but not in 1.2."""
    found = re.search("[\x85\u2028\u2029]", source.text)
    if found is not None:
        code = f"U+{ord(found.group()):04X}"
        hint = f'write it as "\\u{ord(found.group()):04x}" in double quotes'
        at = place_at(source, found.start())
        raise spec_error([line(at, (), f"{code} is a line break in older YAML", hint)])


_UNQUOTED = re.compile(r"\$\{\{[^}\n]*\}?\}?")


def _not_yaml(source: Source, error: Any) -> SpecError:
    """Tell a parser's error; an unquoted expression is its most likely cause."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:
        offset = max(getattr(error, "position", 0), 0)
        index = len(source.text.encode("utf-8", "replace")[:offset].decode("utf-8", "ignore"))
        return spec_error([line(place_at(source, index), (), f"not YAML: {_reason(error)}")])
    row, column = mark.line, mark.column
    rows = source.text.split("\n")
    text = rows[row] if row < len(rows) else ""
    expression = next((m for m in _UNQUOTED.finditer(text) if m.start() <= column <= m.end()), None)
    if expression is not None:
        at = Place(source.name, row + 1, expression.start() + 1)
        hint = f'quote it: "{expression.group()}"'
        return spec_error([line(at, (), "an expression inside { } or [ ] must be quoted", hint)])
    at = Place(source.name, row + 1, column + 1)
    hint = "indent with spaces, not tabs" if text.lstrip(" ").startswith("\t") else ""
    return spec_error([line(at, (), f"not YAML: {_reason(error)}", hint)])


def _reason(error: Any) -> str:
    problem = getattr(error, "problem", None) or getattr(error, "reason", None)
    return str(problem or "it cannot be parsed")
