"""The options of apps: checked with their places in the site file, and as part of its schema."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import ValidationError

import mlstead.apps
from mlstead import discover
from mlstead.spec.base import Model
from mlstead.spec.fields import found_words, problems_of
from mlstead.spec.loaded import LoadedSite
from mlstead.spec.nodes import explain
from mlstead.spec.problems import Problem, nearest
from mlstead.spec.schema import json_schema
from mlstead.spec.site import Site


@cache
def app_options() -> Mapping[str, type[Model]]:
    """Give the options of every app that a site may choose; others come with each cluster."""
    parts = {name: discover.part(mlstead.apps, name) for name in discover.names(mlstead.apps)}
    return {name: part.OPTIONS for name, part in parts.items() if hasattr(part, "OPTIONS")}


def check_options(loaded: LoadedSite) -> None:
    """See that a site names only apps that there are, with options that they have.

    Raises:
        SpecError: it does not; one line for each problem, with its place.
    """
    if problems := option_problems(loaded.site):
        raise explain(loaded.tree, problems)


def option_problems(site: Site) -> list[Problem]:
    """Find everything in the options of apps that cannot be right, in no order."""
    known = app_options()
    problems = []
    for name, value in site.apps.items():
        path = ("apps", name)
        if name not in known:
            hint = nearest(name, known)
            problems.append(Problem(path, f"there is no app {name}", hint, at_key=True))
        elif value is not None and not isinstance(value, Mapping):
            message = f"must be a map of options; found {found_words(value)}"
            problems.append(Problem(path, message, f"without any: {name}: {{}}"))
        else:
            problems += [it.under(path) for it in _problems(known[name], value or {})]
    return problems


def _problems(model: type[Model], value: Mapping[str, Any]) -> list[Problem]:
    try:
        model.model_validate(value, by_alias=True, by_name=False)
    except ValidationError as error:
        return problems_of(model, error)
    return []


def site_schema() -> dict[str, Any]:
    """Give the JSON Schema of the site file with the options of every app."""
    schema = json_schema("site")
    definitions: dict[str, Any] = {}
    properties = {}
    for name, model in app_options().items():
        one = model.model_json_schema(by_alias=True, mode="validation")
        definitions |= one.pop("$defs", {})
        one.pop("title", None)
        optional = not one.get("required")
        properties[name] = {"anyOf": [one, {"type": "null"}]} if optional else one
    apps = schema["properties"]["apps"]
    apps.pop("patternProperties", None)
    schema["properties"]["apps"] = {
        **apps,
        "properties": properties,
        "additionalProperties": False,
    }
    if definitions:
        schema["$defs"] = {**definitions, **schema.get("$defs", {})}
    return schema
