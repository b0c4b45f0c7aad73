"""The verb ``secret``: keep, list and remove secrets; a value is never shown again."""

import sys
from typing import Annotated

import typer

from mlstead.cli._group import Group
from mlstead.cli._options import Json
from mlstead.cli._print import as_json as print_json
from mlstead.errors import UserError
from mlstead.platform import Platform

app = typer.Typer(cls=Group, no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="The secret's name.")]


@app.command("set")
def set_(name: Name) -> None:
    """Keep a secret: its value is asked for, or read from standard input."""
    if sys.stdin.isatty():
        value = typer.prompt("value", hide_input=True)
    else:
        value = sys.stdin.read().removesuffix("\n")
    if not value:
        raise UserError("no value was given", hint=f"printf %s VALUE | mlstead secret set {name}")
    Platform().secrets.set(name, value)
    print(f"secret {name} is kept")


@app.command("list")
def list_(as_json: Json = False) -> None:
    """Name every secret."""
    names = Platform().secrets.names()
    if as_json:
        print_json(names)
        return
    for name in names:
        print(name)


@app.command()
def remove(name: Name) -> None:
    """Forget a secret."""
    Platform().secrets.remove(name)
    print(f"secret {name} is forgotten")
