"""What pydantic found wrong, as problems in our words, with the nearest valid name."""

import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from mlstead.spec.base import PATTERN_WORDS
from mlstead.spec.problems import Path, Problem, close, nearest

_PRUNERS = {"hyperband": "hyperband", "bohb": "hyperband", "asha": "asha", "median": "median"}
_OTHER_WORDS = {
    "bayes": "tpe", "bayesian": "tpe", "bo": "tpe", "optuna": "tpe", "hyperopt": "tpe",
    "cma": "cmaes", "cma-es": "cmaes", "evolution": "cmaes", "gridsearch": "grid",
    "grid-search": "grid", "randomsearch": "random", "random-search": "random",
    "pytorch": "torch", "ddp": "torch", "torchrun": "torch", "tf": "tensorflow",
    "keras": "tensorflow",
    "minimize": "min", "minimise": "min", "maximize": "max", "maximise": "max",
    "successivehalving": "asha", "successive-halving": "asha",
}  # fmt: skip
_KINDS = {"<job>": "JobStep", "<sweep>": "SweepStep", "<service>": "ServiceStep"}
_MUST = {
    "string_type": "must be a text",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a map",
    "mapping_type": "must be a map",
    "model_type": "must be a map",
    "model_attributes_type": "must be a map",
    "finite_number": "must be a finite number",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "must be at least"),
    "greater_than": ("gt", "must be more than"),
    "less_than_equal": ("le", "must be at most"),
    "less_than": ("lt", "must be less than"),
}


def field_name(name: str, field: FieldInfo) -> str:
    """Give a field's name as it is written in a file."""
    return field.validation_alias if isinstance(field.validation_alias, str) else name


def names_of(model: type[BaseModel]) -> list[str]:
    """List a model's fields as they are written in a file."""
    return [field_name(name, field) for name, field in model.model_fields.items()]


def problems_of(model: type[BaseModel], error: ValidationError) -> list[Problem]:
    """Translate every error of a validation into a problem in plain words."""
    return [_problem(model, detail) for detail in error.errors(include_url=False)]


def _problem(model: type[BaseModel], detail: ErrorDetails) -> Problem:
    loc = detail["loc"]
    at_key = bool(loc) and loc[-1] == "[key]"
    path: Path = tuple(part for part in loc if not _is_tag(part))
    if detail["type"] == "extra_forbidden":
        return _unknown(model, loc, path)
    value = detail["input"]
    if detail["type"] == "shape" and isinstance(value, Mapping) and "kind" in value:
        kinds = [kind.strip("<>") for kind in _KINDS]
        message = f"must be one of {', '.join(kinds)}; found {found_words(value['kind'])}"
        return Problem((*path, "kind"), message, close(str(value["kind"]), kinds))
    message, hint = _words(detail)
    return Problem(path, message, hint, at_key=at_key)


def _is_tag(part: str | int) -> bool:
    return isinstance(part, str) and (part == "[key]" or part[:1] + part[-1:] == "<>")


def _unknown(model: type[BaseModel], loc: Path, path: Path) -> Problem:
    word = str(path[-1])
    models = _models_at(model, loc[:-1])
    known = [name for found in models for name in names_of(found)]
    inner = _inside(models, word)
    hint = f"did you mean {inner}?" if inner else nearest(word, known)
    return Problem(path, "unknown field", hint, at_key=True)


def _inside(models: Iterable[type[BaseModel]], word: str) -> str:
    """Find the field one level down that has a field of this name."""
    for model in models:
        for name, field in model.model_fields.items():
            if any(word in names_of(found) for found in _models_in(field.annotation)):
                return f"{field_name(name, field)}.{word}"
    return ""


def _models_at(model: type[BaseModel], loc: Path) -> list[type[BaseModel]]:
    """Find the models that a place in the spec may be."""
    hints: list[Any] = [model]
    for part in loc:
        if isinstance(part, str) and part in _KINDS:
            hints = [hint for hint in _spread(hints) if _named(hint, _KINDS[part])]
        elif not _is_tag(part):
            hints = [inner for hint in _spread(hints) for inner in _step(hint, part)]
    return [hint for hint in _spread(hints) if isinstance(hint, type)]


def _named(hint: Any, name: str) -> bool:
    return isinstance(hint, type) and hint.__name__ == name


def _step(hint: Any, part: str | int) -> list[Any]:
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        fields = hint.model_fields.items()
        return [field.annotation for name, field in fields if field_name(name, field) == part]
    return list(get_args(hint)[-1:] if get_origin(hint) is Mapping else get_args(hint)[:1])


def _spread(hints: Iterable[Any]) -> list[Any]:
    """Take annotations apart until only models, maps and lists are left."""
    found: list[Any] = []
    for hint in hints:
        origin = get_origin(hint)
        if origin in (Union, types.UnionType):
            found += _spread(get_args(hint))
        elif hasattr(hint, "__metadata__"):
            found += _spread(get_args(hint)[:1])
        elif isinstance(hint, type) and origin is None:
            found += [hint] if issubclass(hint, BaseModel) else []
        elif origin is not None and (isinstance(origin, type)):
            found.append(hint)
    return found


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    return [hint for hint in _spread([annotation]) if get_origin(hint) is None]


def found_words(value: object) -> str:
    """Say in words what was written where something else is wanted."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"the text {value!r}" if len(value) <= 40 else "a text"
    if isinstance(value, int | float):
        return f"the number {value}"
    return "a map" if isinstance(value, Mapping) else "a list"


def _words(detail: ErrorDetails) -> tuple[str, str]:
    """Give message and hint for one error of pydantic."""
    kind, context = detail["type"], detail.get("ctx", {})
    tell = _TELL.get(kind)
    if tell is not None:
        return tell(detail)
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return f"{words} {context[key]}; found {detail['input']}", ""
    if kind in _MUST:
        return f"{_MUST[kind]}; found {found_words(detail['input'])}", _type_hint(detail)
    return detail["msg"][:1].lower() + detail["msg"][1:], ""


def _type_hint(detail: ErrorDetails) -> str:
    value = detail["input"]
    if detail["type"] == "string_type" and isinstance(value, bool | int | float):
        return f'quote it: "{str(value).lower()}"'
    if detail["type"] in ("int_type", "float_type", "bool_type") and isinstance(value, str):
        return "write it without quotes" if value[:1].isdigit() else ""
    return ""


def _literal(detail: ErrorDetails) -> tuple[str, str]:
    expected = detail.get("ctx", {})["expected"].replace("'", "").replace(" or ", ", ")
    value = detail["input"]
    hint = _meant(value, expected.split(", ")) if isinstance(value, str) else ""
    return f"must be one of {expected}; found {found_words(value)}", hint


def _meant(value: str, known: list[str]) -> str:
    """Give a hint for a word: by what other tools call it, else by its letters."""
    word = value.lower()
    if "tpe" in known and word in _PRUNERS:
        return f"that is a way to stop trials early: prune: {_PRUNERS[word]}"
    other = _OTHER_WORDS.get(word, "")
    return f"did you mean {other}?" if other in known else close(word, known)


def _pattern(detail: ErrorDetails) -> tuple[str, str]:
    pattern = detail.get("ctx", {})["pattern"]
    return f"{detail['input']!r} is not allowed: {PATTERN_WORDS.get(pattern, pattern)}", ""


_TELL: dict[str, Callable[[ErrorDetails], tuple[str, str]]] = {
    "missing": lambda detail: ("is required", ""),
    "value_error": lambda detail: (str(detail.get("ctx", {})["error"]), ""),
    "shape": lambda detail: (f"{detail['msg']}; found {found_words(detail['input'])}", ""),
    "literal_error": _literal,
    "string_pattern_mismatch": _pattern,
    "too_short": lambda detail: ("must not be empty", ""),
    "string_too_short": lambda detail: ("must not be empty", ""),
}
