"""Changes one field of a YAML text; every other letter of it, comments too, stays as it is."""

import copy
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from mlstead.errors import UserError
from mlstead.spec.compose import compose
from mlstead.spec.nodes import Items, Leaf, Map, Node, Source, place, plain
from mlstead.spec.problems import Path, Problem, dotted

# What is a text without quotes for readers of YAML 1.1, too.
_PLAIN: Final = re.compile(r"[A-Za-z/~][A-Za-z0-9_./@:+-]*[A-Za-z0-9_/=]|[A-Za-z]|\d+(\.\d+){3}")
_WORDS: Final = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
_FLOW: Final = re.compile(r"(&\S+\s+)?[\[{]")


def put(source: Source, path: Path, value: Any, *, flow: bool = False) -> Source:
    """Set a field, or add it at the end of the map or list that it is missing in.

    Args:
        source: the text; there is a map in it.
        path: keys and indices; all but the last are there.
        value: texts, numbers, truth values, maps and lists.
        flow: whether a new map or list is written in one line.

    Raises:
        SpecError: the text cannot be read.
        UserError: the way in which it is written leaves no room for such a change.
    """
    root = compose(source)
    wanted = plain(root)
    inside = _at(wanted, path[:-1])
    if inside is None or (not inside and len(path) > 1):
        made = {path[-1]: value} if isinstance(path[-1], str) else [value]
        return put(source, path[:-1], made, flow=flow)
    if isinstance(inside, list) and path[-1] == len(inside):
        inside.append(value)
    else:
        inside[path[-1]] = value
    return _checked(source, _put(root, path, value, flow), copy.deepcopy(wanted), path, root)


def drop(source: Source, path: Path) -> Source:
    """Take a field or an item away, with what else stands in its lines.

    Raises:
        SpecError: the text cannot be read.
        UserError: the way in which it is written leaves no room for such a change.
    """
    root = compose(source)
    wanted = plain(root)
    inside = _at(wanted, path[:-1])
    if len(inside) == 1 and len(path) > 1:
        return put(source, path[:-1], type(inside)())
    del inside[path[-1]]
    return _checked(source, _drop(root, path), wanted, path, root)


def written(value: Any) -> str:
    """Write a value in one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_scalar(key)}: {written(it)}" for key, it in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(written(item) for item in value) + "]"
    return _scalar(value)


def block(value: Any, indent: int = 0) -> str:
    """Write a value in lines, each with its end; the first one is indented, too."""
    pad = " " * indent
    if isinstance(value, Mapping) and value:
        return "".join(f"{pad}{_scalar(key)}:{_after(it, indent)}" for key, it in value.items())
    if isinstance(value, list | tuple) and value:
        return "".join(f"{pad}- {block(item, indent + 2).lstrip(' ')}" for item in value)
    return f"{pad}{written(value)}\n"


def _after(value: Any, indent: int) -> str:
    if value and isinstance(value, Mapping | list | tuple):
        return "\n" + block(value, indent if not isinstance(value, Mapping) else indent + 2)
    return f" {written(value)}\n"


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)


def _at(data: Any, path: Path) -> Any:
    for part in path:
        data = data.get(part) if isinstance(data, dict) else data[part]
    return data


def _checked(source: Source, text: str, wanted: Any, path: Path, root: Node) -> Source:
    """Give the changed text if it says what it shall, and nothing else changed."""
    if "\r\n" in source.text:
        text = re.sub("\r?\n", "\r\n", text)
    changed = Source(source.name, text)
    try:
        if plain(compose(changed)) == wanted:
            return changed
    except UserError:
        pass
    at = place(root, Problem(path, ""))
    raise UserError(
        f"{at}: {dotted(path)} is written in a way that cannot be changed here",
        hint="change it by hand",
    )


def _parent(root: Node, path: Path) -> tuple[Node, bool]:
    """Find what holds a field, and whether it is written with brackets."""
    node, flow = root, _is_flow(root)
    for part in path[:-1]:
        found = _child(node, part)
        if found is None:
            break
        node = found
        flow = flow or _is_flow(node)
    return node, flow


def _is_flow(node: Node) -> bool:
    return bool(_FLOW.match(node.mark.source.text, node.mark.start))


def _child(node: Node, part: str | int) -> Node | None:
    if isinstance(node, Map):
        return node.get(str(part))
    if isinstance(node, Items) and isinstance(part, int) and part < len(node.items):
        return node.items[part]
    return None


def _put(root: Node, path: Path, value: Any, flow: bool) -> str:
    node, inside_flow = _parent(root, path)
    text = root.mark.source.text
    there = _child(node, path[-1])
    if there is None:
        return _added(text, node, path[-1], value, (flow, inside_flow))
    start, end = there.mark.start, there.mark.end
    if inside_flow or (isinstance(there, Leaf) and not isinstance(value, dict | list)):
        gap = " " if text[start - 1 : start] == ":" else ""
        tail = "\n" if start < end and text[end - 1] == "\n" else ""
        return f"{text[:start]}{gap}{written(value)}{tail}{text[end:]}"
    if isinstance(node, Map):
        key = node.entries[str(path[-1])].key
        new = f" {written(value)}" if flow else _after(value, key.column - 1).removesuffix("\n")
        return f"{text[: key.end]}:{new}{_rest(text, end)}"
    new = written(value) if flow else block(value, there.mark.column - 1).strip()
    return f"{text[:start]}{new}{_rest(text, end)}"


def _rest(text: str, end: int) -> str:
    return "\n" + text[end:] if text[end - 1 : end] == "\n" else text[end:]


def _added(text: str, node: Node, part: str | int, value: Any, how: tuple[bool, bool]) -> str:
    flow, inside_flow = how
    name = f"{_scalar(part)}:" if isinstance(node, Map) else ""
    if inside_flow:
        ends = [span[1] for span in _spans(node)]
        at = ends[-1] if ends else node.mark.start + 1
        return (
            f"{text[:at]}{', ' if ends else ''}{name}{' ' * bool(name)}{written(value)}{text[at:]}"
        )
    at = _line_end(text, node.mark.end)
    before = "" if text[:at].endswith("\n") or not at else "\n"
    indent = node.mark.column - 1
    if isinstance(node, Map):
        new = f"{' ' * indent}{name}" + (f" {written(value)}\n" if flow else _after(value, indent))
    else:
        new = f"{' ' * indent}- {written(value)}\n" if flow else block([value], indent)
    return f"{text[:at]}{before}{new}{text[at:]}"


def _drop(root: Node, path: Path) -> str:
    node, flow = _parent(root, path)
    text = root.mark.source.text
    spans = _spans(node)
    index = list(node.entries).index(str(path[-1])) if isinstance(node, Map) else int(path[-1])
    start, end = spans[index]
    if flow:
        start, end = (
            (spans[index - 1][1], end) if index else (start, spans[1][0] if len(spans) > 1 else end)
        )
    else:
        if isinstance(node, Items):
            start = text.rfind("-", 0, start)
        start, end = text.rfind("\n", 0, start) + 1, _line_end(text, end)
    return text[:start] + text[end:]


def _spans(node: Node) -> list[tuple[int, int]]:
    """Give where each entry of a map, or item of a list, starts and ends."""
    if isinstance(node, Map):
        return [(it.key.start, max(it.key.end, it.node.mark.end)) for it in node.entries.values()]
    if isinstance(node, Leaf):
        return []
    return [(item.mark.start, item.mark.end) for item in node.items]


def _line_end(text: str, at: int) -> int:
    """Give where the line after a place begins; the same place if it is there already."""
    if text[at - 1 : at] == "\n":
        return at
    found = text.find("\n", at)
    return len(text) if found < 0 else found + 1
