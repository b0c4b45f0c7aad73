"""Asks on the terminal for what must never stand in a command."""

import sys
from collections.abc import Callable

import typer


def passphrase() -> Callable[[], str] | None:
    """Give what asks for the passphrase of a site's secrets; None where nobody can answer."""
    return _ask if sys.stdin.isatty() else None


def _ask() -> str:
    return str(typer.prompt("Passphrase of the site's secrets", hide_input=True, err=True))
