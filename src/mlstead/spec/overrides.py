"""Parameters given beside the file, ``-p lr=0.2``: put into its tree before it is read."""

from collections.abc import Mapping, Sequence

from mlstead.errors import SpecError
from mlstead.spec.compose import compose
from mlstead.spec.nodes import Entry, Items, Leaf, Map, Mark, Node, Source
from mlstead.spec.problems import line, nearest, spec_error
from mlstead.spec.scalars import resolve

Overrides = Mapping[str, str] | Sequence[str]


def override(root: Map, overrides: Overrides) -> Map:
    """Put parameters into the tree of a work file; values are data, never expressions.

    Raises:
        SpecError: one is not ``name=value``, or the file has no such parameter, or it is a
            number there and not here.
    """
    if isinstance(overrides, str):
        overrides = [overrides]
    if not isinstance(overrides, Mapping):
        overrides = dict(_split(text) for text in overrides)
    errors = []
    for name, text in overrides.items():
        try:
            root = _one(root, name, text)
        except SpecError as error:
            errors += str(error).split("\n")
    if errors:
        raise spec_error(errors)
    return root


def _split(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise SpecError(f"-p {text}: must be name=value")
    return name.strip(), value


def _one(root: Map, name: str, text: str) -> Map:
    source = Source(f"-p {name}={text}", text)
    paths = _places(root)
    known: list[str] = []
    for path in paths:
        params = _at(root, path)
        if params is None:
            continue
        if name in params.entries:
            _refuse_searched(root, name, source)
            value = _value(params.entries[name].node, source)
            return _put(root, (*path, name), value)
        known += params.entries
    message = f"there is no param {name}"
    raise spec_error([line(source.name, (), message, nearest(name, known))])


def _places(root: Map) -> tuple[tuple[str, ...], ...]:
    """Give where the parameters of this kind of file stand, the ones that win first."""
    kind = root.get("kind")
    sweep = isinstance(kind, Leaf) and kind.value == "sweep"
    return (("params",), ("trial", "params")) if sweep else (("params",),)


def _at(root: Map, path: tuple[str, ...]) -> Map | None:
    node: Node | None = root
    for part in path:
        node = node.get(part) if isinstance(node, Map) else None
    return node if isinstance(node, Map) else None


def _refuse_searched(root: Map, name: str, source: Source) -> None:
    space = _at(root, ("search", "space"))
    if space is not None and name in space.entries:
        hint = "leave it out of search.space to give it"
        raise spec_error([line(source.name, (), f"{name} is chosen by the search", hint)])


def _put(root: Map, path: tuple[str, ...], value: Node) -> Map:
    entry = root.entries[path[0]]
    inner = entry.node
    if len(path) > 1 and isinstance(inner, Map):
        value = _put(inner, path[1:], value)
    return Map({**root.entries, path[0]: Entry(entry.key, value)}, root.mark)


def _value(old: Node, source: Source) -> Node:
    """Read the text as what the file has there: a text stays one, a number must be one."""
    mark = Mark(source, 0, 0, 0, 0)
    literal = source.text.replace("${{", "$${{")
    if isinstance(old, Map | Items):
        return _literal(compose(source))
    if isinstance(old.value, str):
        return Leaf(literal, mark)
    value = resolve(source.text.strip())
    if isinstance(old.value, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    numbers = isinstance(old.value, bool | int | float)
    if numbers and isinstance(value, str):
        words = "true or false" if isinstance(old.value, bool) else "a number"
        message = f"must be {words}, as in the file, where it is {_written(old.value)}"
        raise spec_error([line(source.name, (), message)])
    return Leaf(literal if isinstance(value, str) else value, mark)


def _literal(node: Node) -> Node:
    """Give a tree whose texts are data, without a place in the file."""
    mark = Mark(node.mark.source, 0, 0, 0, 0)
    if isinstance(node, Map):
        entries = {key: Entry(mark, _literal(entry.node)) for key, entry in node.entries.items()}
        return Map(entries, mark)
    if isinstance(node, Items):
        return Items(tuple(_literal(item) for item in node.items), mark)
    text = node.value.replace("${{", "$${{") if isinstance(node.value, str) else node.value
    return Leaf(text, mark)


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
