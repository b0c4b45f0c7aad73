"""Expressions, ``${{ params.lr }}``: found, checked, and replaced once.

An expression is a path and nothing else: ``params.X``, ``item``, ``item.X``,
``steps.S.outputs.X``, ``steps.S.values.X``, ``trial.number``, ``run.id``, ``run.name``,
``run.project``. ``$${{`` is the text ``${{``. What a value brings in is never read again.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from mlstead.errors import SpecError
from mlstead.spec.problems import Path, Problem, nearest
from mlstead.spec.quoting import unsafe

_FOUND = re.compile(r"\$(\$\{\{)|\$\{\{(.*?)(\}\}|\Z)", re.DOTALL)
_PART = r"[A-Za-z_][A-Za-z0-9_-]*"
_PATH = re.compile(
    rf"params\.{_PART}|item(?:\.(?:{_PART}|[0-9]+))?|steps\.{_PART}\.(?:outputs|values)\.{_PART}"
    r"|trial\.number|run\.(?:id|name|project)"
)
_ROOTS = ("params", "item", "steps", "trial", "run")
_MARK = "${{"


@dataclass(frozen=True, slots=True)
class Expression:
    """One expression in a text.

    Attributes:
        path: what it stands for, such as ``params.lr``.
        start: index of its first character in the text.
        end: index after its last character.
    """

    path: str
    start: int
    end: int


def expressions(text: str) -> Iterator[Expression]:
    """Give the expressions of a text in order, without the literals."""
    if _MARK in text:
        for match in _FOUND.finditer(text):
            if match[1] is None:
                yield Expression(match[2].strip(), *match.span())


def is_path(path: str) -> bool:
    """Say whether what stands in an expression is one of the paths there are."""
    return _PATH.fullmatch(path) is not None


def whole(text: str) -> str:
    """Give the path if the text is one expression and nothing else; else an empty text."""
    found = list(expressions(text.strip()))
    one = len(found) == 1 and found[0].end - found[0].start == len(text.strip())
    return found[0].path if one else ""


def references(value: object) -> frozenset[str]:
    """Give the paths of all expressions in a value, however deep."""
    return frozenset(it.path for _, text in texts(value) for it in expressions(text))


def texts(value: object, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Give every text with an expression or a literal ``$${{``, and the path to it."""
    if isinstance(value, str):
        if _MARK in value:
            yield path, value
    elif isinstance(value, BaseModel):
        fields = type(value).model_fields
        for name, item in vars(value).items():
            if item:
                yield from texts(item, (*path, fields[name].serialization_alias or name))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from texts(item, (*path, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from texts(item, (*path, index))


def syntax_problems(text: str) -> Iterator[Problem]:
    """Tell which expressions of a text are not paths, or are never closed."""
    for nth, match in enumerate(_FOUND.finditer(text)):
        if match[1] is not None:
            continue
        snippet, path = match[0], match[2].strip()
        count = text[: match.start()].count(snippet) if nth else 0
        if not match[3]:
            yield Problem((), "${{ is never closed", "write $${{ for the text ${{", snippet, count)
        elif not is_path(path):
            root = path.split(".")[0]
            hint = "paths only: params.X, item.X, steps.S.outputs.X, steps.S.values.X, trial.number"
            hint += ", run.id, run.name, run.project"
            if root not in _ROOTS and re.fullmatch(_PART, root):
                hint = nearest(root, _ROOTS)
            yield Problem((), f"{snippet} is not an expression", hint, snippet, count)


def command_problems(command: str) -> Iterator[Problem]:
    """Tell which expressions of a shell command stand where no value is safe."""
    found = list(expressions(command))
    reasons = unsafe(command, [(it.start, it.end) for it in found]) if found else []
    for it, reason in zip(found, reasons, strict=True):
        if reason:
            snippet = command[it.start : it.end]
            nth = command[: it.start].count(snippet)
            hint = "values are quoted for you: write it bare, or use an environment variable"
            yield Problem((), f"{snippet} stands {reason}", hint, snippet, nth)


def lookup(path: str, scope: Mapping[str, Any]) -> Any:
    """Give the value a path stands for.

    Raises:
        SpecError: the scope has no such value.
    """
    value: Any = scope
    for part in path.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list | tuple) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            known = [str(key) for key in value] if isinstance(value, Mapping) else []
            raise SpecError(f"{path}: there is no {part} here", hint=nearest(part, known))
    return value


def as_text(value: object) -> str:
    """Write a value as text: true and false, numbers as JSON has them, nothing for null."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def expand(value: Any, scope: Mapping[str, Any]) -> Any:
    """Replace the expressions in a value, once.

    A text that is one expression becomes the value itself, of its own type; an expression
    within a text becomes text. Maps become dicts, lists become tuples, models stay models.

    Args:
        value: a text, a list, a map, a model, or anything else, which is given back.
        scope: the roots that are known, such as ``{"params": {"lr": 0.1}}``.

    Raises:
        SpecError: an expression stands for nothing in the scope, or is not a path.
    """
    if isinstance(value, str):
        return _expand_text(value, scope)
    if isinstance(value, BaseModel):
        # A copy, not a new validation: what a value brings in is data, not a short form.
        fields = type(value).model_fields.items()
        changed = {name: expand(getattr(value, name), scope) for name, _ in fields}
        texts_only = {name for name, field in fields if field.annotation is str}
        return value.model_copy(
            update={k: as_text(v) if k in texts_only else v for k, v in changed.items()}
        )
    if isinstance(value, Mapping):
        return {key: expand(item, scope) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(expand(item, scope) for item in value)
    return value


def expand_text(text: str, scope: Mapping[str, Any]) -> str:
    """Replace the expressions in a text; the result is always a text.

    Raises:
        SpecError: an expression stands for nothing in the scope.
    """
    return as_text(expand(text, scope))


def _expand_text(text: str, scope: Mapping[str, Any]) -> Any:
    if _MARK not in text:
        return text
    _refuse(syntax_problems(text))
    path = whole(text)
    if path:
        return lookup(path, scope)
    return _FOUND.sub(lambda it: it[1] or as_text(lookup(it[2].strip(), scope)), text)


def expand_command(command: str | Iterable[str], scope: Mapping[str, Any]) -> tuple[str, ...]:
    """Make the argument list of a command, with its expressions replaced.

    A list is run as it is, without a shell. A text is run by ``sh -ec``, and each value is
    inserted as one quoted word. (Always in quotes: bare, ``2`` before ``>`` would be a
    redirection and ``A=b`` in front of a command an assignment.)

    Raises:
        SpecError: an expression stands for nothing in the scope, or where no value is safe.
    """
    if isinstance(command, str):
        _refuse(syntax_problems(command))
        _refuse(command_problems(command))
        words = _FOUND.sub(
            lambda it: it[1] or quote(as_text(lookup(it[2].strip(), scope))), command
        )
        arguments: tuple[str, ...] = ("sh", "-ec", words)
    else:
        arguments = tuple(expand_text(word, scope) for word in command)
    if any("\0" in argument for argument in arguments):
        raise SpecError("command: a NUL character cannot be passed to a program")
    return arguments


def quote(text: str) -> str:
    """Write a text as one word of a POSIX shell, always in quotes."""
    return "'" + text.replace("'", "'\"'\"'") + "'"


def _refuse(problems: Iterator[Problem]) -> None:
    for problem in problems:
        raise SpecError(problem.message, hint=problem.hint)
