"""What a pipeline file leaves to other places: ``use:`` files and inherited ``defaults:``."""

import posixpath
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from mlstead.errors import NotFoundError
from mlstead.spec.base import Model
from mlstead.spec.fields import names_of
from mlstead.spec.job import JobBody
from mlstead.spec.nodes import Entry, Leaf, Map, Node
from mlstead.spec.pipeline import JobStep, ServiceStep, SweepStep
from mlstead.spec.problems import Path, Problem, nearest

Read = Callable[[str], Node]
"""Gives the tree of another work file; its path is relative to the first one's folder."""

_STEPS: Final[dict[str, type[Model]]] = {
    "job": JobStep,
    "sweep": SweepStep,
    "service": ServiceStep,
}


class UseError(Exception):
    """A step's ``use:`` cannot be followed; carries the problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def resolve_pipeline(root: Map, read: Read | None) -> tuple[Map, list[Problem]]:
    """Fill every step from the file it uses and from the defaults of the pipeline.

    Args:
        root: the tree of the pipeline file.
        read: reads another work file; None where there are no files, which forbids ``use:``.

    Returns:
        The tree with whole steps, and what was wrong.
    """
    problems: list[Problem] = []
    entries = dict(root.entries)
    defaults = root.get("defaults")
    defaults = defaults if isinstance(defaults, Map) else None
    problems += _unknown_defaults(defaults)
    for field in ("steps", "finally"):
        steps = root.get(field)
        if isinstance(steps, Map):
            whole = Map(dict(steps.entries), steps.mark)
            for name, entry in steps.entries.items():
                try:
                    step = _inherit(_used(entry.node, read), defaults)
                    whole.entries[name] = Entry(entry.key, step)
                except UseError as error:
                    problems.append(error.problem.under((field, name)))
            entries[field] = Entry(entries[field].key, whole)
    return Map(entries, root.mark), problems


def _unknown_defaults(defaults: Map | None) -> list[Problem]:
    known = {name for model in _STEPS.values() for name in names_of(model)}
    known = (known | set(names_of(JobBody))) - {"use", "kind", "name", "trial", "search"}
    names = defaults.entries if defaults is not None else {}
    return [
        Problem(("defaults", name), "unknown field", nearest(name, known), at_key=True)
        for name in names
        if name not in known
    ]


def _kind(step: Node) -> str:
    kind = step.get("kind") if isinstance(step, Map) else None
    return str(kind.value) if isinstance(kind, Leaf) else "job"


def _merge(under: Map, over: Map) -> Map:
    """Put one map over another: maps of fields merge by key, all else replaces."""
    entries = dict(under.entries)
    for key, entry in over.entries.items():
        below = under.get(key)
        if isinstance(below, Map) and isinstance(entry.node, Map):
            merged = {**below.entries, **entry.node.entries}
            entry = Entry(entry.key, Map(merged, entry.node.mark))
        entries[key] = entry
    return Map(entries, over.mark)


def _inherit(step: Node, defaults: Map | None) -> Node:
    """Give a step the defaults its kind has fields for; those of a sweep go to its trial."""
    if defaults is None or not isinstance(step, Map):
        return step
    kind = _kind(step)
    trial = step.get("trial")
    if kind == "sweep" and isinstance(trial, Map):
        fields = set(names_of(JobBody))
        inner = _merge(_only(defaults, fields), trial)
        rest = _only(defaults, set(names_of(SweepStep)) - fields)
        step = _merge(rest, step)
        return Map({**step.entries, "trial": Entry(step.entries["trial"].key, inner)}, step.mark)
    model = _STEPS.get(kind)
    return _merge(_only(defaults, set(names_of(model))), step) if model else step


def _only(node: Map, names: set[str]) -> Map:
    return Map({key: entry for key, entry in node.entries.items() if key in names}, node.mark)


def _used(step: Node, read: Read | None) -> Node:
    """Put a step over the work file it uses."""
    use = step.get("use") if isinstance(step, Map) else None
    if not isinstance(step, Map) or not isinstance(use, Leaf) or not use.value:
        return step
    if not isinstance(use.value, str):
        return step
    if read is None:
        raise UseError(Problem(("use",), "needs a file: this text does not stand in a folder"))
    try:
        other = read(use.value)
    except NotFoundError as error:
        raise UseError(Problem(("use",), f"there is no file {use.value}")) from error
    kind = _kind(other)
    if kind not in _STEPS or not isinstance(other, Map):
        hint = "a step is a job, a sweep or a service"
        raise UseError(Problem(("use",), f"{use.value} is of kind {kind}", hint))
    if "kind" in step.entries and _kind(step) != kind:
        message = f"is {_kind(step)}, but {use.value} is of kind {kind}"
        raise UseError(Problem(("kind",), message))
    moved = _moved(other, kind, posixpath.dirname(use.value) or ".")
    header = ("mlstead",) if kind == "service" else ("mlstead", "name")
    body = Map({key: it for key, it in moved.entries.items() if key not in header}, step.mark)
    return _merge(body, step)


def _moved(node: Map, kind: str, to: str) -> Map:
    """Make the paths of a work file in another folder relative to this one."""
    if to == ".":
        return node
    if kind == "sweep":
        trial = node.get("trial")
        return _set(node, "trial", _moved(trial, "job", to)) if isinstance(trial, Map) else node
    fields: list[Path] = [("code",), ("code", "path"), ("python", "lock")]
    fields += [("python", "requirements"), ("model", "path")]
    for group, rest in (("data", ("path",)), ("versions", ("model", "path"))):
        named = node.get(group)
        fields += [(group, key, *rest) for key in named.entries] if isinstance(named, Map) else []
    for path in fields:
        node = _join(node, path, to)
    # A job that says nothing of code means its own folder.
    missing = kind == "job" and "code" not in node.entries
    return _set(node, "code", Leaf(to, node.mark)) if missing else node


def _set(node: Map, key: str, value: Node) -> Map:
    mark = node.entries[key].key if key in node.entries else value.mark
    return Map({**node.entries, key: Entry(mark, value)}, node.mark)


def _join(node: Map, path: Path, to: str) -> Map:
    """Put a folder before the path that stands at a place of the tree, if one does."""
    key = str(path[0])
    inner = node.get(key)
    if len(path) > 1:
        return _set(node, key, _join(inner, path[1:], to)) if isinstance(inner, Map) else node
    value = inner.value if isinstance(inner, Leaf) else None
    if not isinstance(inner, Leaf) or not isinstance(value, str) or value.startswith("${{"):
        return node
    return _set(node, key, replace(inner, value=posixpath.normpath(posixpath.join(to, value))))
