"""Which names are legal for what lives longer than a run: data, models, aliases, projects."""

import re

from mlstead.errors import UserError

_VERSIONED = re.compile(r"[a-z][a-z0-9._-]{0,79}")
_ALIAS = re.compile(r"[a-z][a-z0-9._-]{0,39}")
_PROJECT = re.compile(r"[a-z][a-z0-9-]{0,39}")


def check_versioned(name: str) -> str:
    """Give back the name of data or of a model; UserError if it is not legal."""
    return _check(_VERSIONED, name, "name", "a-z first, then at most 79 of a-z, 0-9, '.', '_', '-'")


def check_alias(name: str) -> str:
    """Give back an alias; UserError if it is not legal, as numbers are not."""
    return _check(_ALIAS, name, "alias", "a-z first, then at most 39 of a-z, 0-9, '.', '_', '-'")


def check_project(name: str) -> str:
    """Give back the name of a project; UserError if it is not legal."""
    return _check(_PROJECT, name, "project", "a-z first, then at most 39 of a-z, 0-9, '-'")


def _check(pattern: re.Pattern[str], name: str, what: str, rule: str) -> str:
    if not pattern.fullmatch(name):
        raise UserError(f"{what} {name!r} is not legal", hint=rule)
    return name
