"""Tells where in its file a field stands that was refused after the file had been read."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from mlstead.errors import UserError
from mlstead.spec.base import Model
from mlstead.spec.fields import names_of
from mlstead.spec.job import JobBody
from mlstead.spec.loaded import Loaded
from mlstead.spec.nodes import Map, Node, place
from mlstead.spec.problems import Path, Place, Problem
from mlstead.spec.work import KINDS

_FIELD = re.compile(r"([a-z_]+(?:\.[A-Za-z0-9_-]+|\[[0-9]+\])*): (.*)", re.DOTALL)
_PART = re.compile(r"\[([0-9]+)\]|([A-Za-z0-9_-]+)")
_QUOTED = re.compile(r"'([^']+)'")


@contextmanager
def located(loaded: Loaded) -> Iterator[None]:
    """Put ``file:line:column:`` before an error about a field of a work that came from a file.

    Raises:
        UserError: what was raised inside, with the place where it names a field.
    """
    try:
        yield
    except UserError as error:
        at = loaded.tree and find(loaded.tree, str(error))
        if not at:
            raise
        raise type(error)(f"{at}: {error}", hint=error.hint) from error


def find(tree: Map, message: str) -> Place | None:
    """Find the place of the field that a message starts with; None if it names none."""
    match = _FIELD.match(message)
    if match is None:
        return None
    parts: Path = tuple(int(index) if index else name for index, name in _PART.findall(match[1]))
    models: list[type[Model]] = [JobBody, *KINDS.values()]
    fields = {name for model in models for name in names_of(model)}
    if parts[0] not in fields:
        return None
    path = _written(tree, parts)
    node = _at(tree, path)
    word = match[2].partition(" ")[0].rstrip(":,")
    if isinstance(node, Map) and word in node.entries:
        path = (*path, word)  # "resources: memory 64 MiB …" is about resources.memory
    quoted = _QUOTED.search(match[2])
    return place(tree, Problem(path, "", snippet=quoted[1] if quoted else ""))


def _written(tree: Map, parts: Path) -> Path:
    """Turn the path that is told into the one in the file, where ``trial`` and ``finally`` are."""
    head: Path = ()
    if parts[0] == "steps" and len(parts) > 1:
        group = "steps" if _at(tree, ("steps", parts[1])) else "finally"
        head, parts = (group, parts[1]), parts[2:]
    if not parts:
        return head
    inside = isinstance(_at(tree, (*head, "trial")), Map)
    other = _at(tree, (*head, parts[0])) is None or _at(tree, (*head, "trial", parts[0]))
    return (*head, "trial", *parts) if inside and other else (*head, *parts)


def _at(tree: Map, path: Path) -> Node | None:
    node: Node | None = tree
    for part in path:
        node = node.get(str(part)) if isinstance(node, Map) else None
    return node
