"""The options that several verbs share."""

from typing import Annotated

import typer

from mlstead.errors import UserError

On = Annotated[str, typer.Option("--on", help="The context to work in.", metavar="CONTEXT")]
Project = Annotated[str, typer.Option("--project", help="The project.", metavar="NAME")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Params = Annotated[
    list[str] | None,
    typer.Option("-p", "--param", help="Set a parameter: NAME=VALUE.", metavar="NAME=VALUE"),
]


def one_place(place: str, to: str) -> str:
    """Give the place to copy to, written as an argument or as ``--to``; "" if neither.

    Raises:
        UserError: both are given, and they differ.
    """
    if place and to and place != to:
        raise UserError(f"where to: {place} or {to}?", hint="give the place once")
    return place or to
